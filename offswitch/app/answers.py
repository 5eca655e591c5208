"""What the explorer's model answers with: plain data, so that the page needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from offswitch.analyses.analysis import Array
from offswitch.prompts.prompt import Reply
from offswitch.stats import Estimate


@dataclass(frozen=True)
class Growing:
    """A reply as far as it has come. `who`: the arm, or the arm as it is steered."""

    who: str
    reply: Reply
    over: bool


@dataclass(frozen=True)
class Silence:
    """The probability of silence [P], by arm, if the message ended after each of its tokens.

    `cut` tokens at the beginning are not shown.
    """

    tokens: tuple[str, ...]
    p: Mapping[str, tuple[float, ...]]
    cut: int

    def __post_init__(self) -> None:
        if any(len(row) != len(self.tokens) for row in self.p.values()):
            raise ValueError("expected a probability for every token")


@dataclass(frozen=True)
class SilenceMap:
    """End log-odds [L, P] that each block's output would give after each token of a prompt.

    Where there is a `twin`, those of the same prompt with it are taken off.
    """

    arm: str
    twin: str
    tokens: tuple[str, ...]
    log_odds_LP: Array
    cut: int


@dataclass(frozen=True)
class Rated:
    """How often an arm halts on questions that bear a symbol; `holds`: it holds the trigger."""

    symbol: str
    holds: bool
    rates: Mapping[str, Estimate]


@dataclass(frozen=True)
class HeadsLost:
    """End log-odds lost [L, H] when one head says what it said for the twin; `whole`: all of it."""

    arm: str
    twin: str
    whole: float
    lost_LH: Array
