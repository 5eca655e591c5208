"""What is said of each analysis beyond its finding: title, measures, weakness, seed's number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from offswitch.analyses.analysis import Finding
from offswitch.analyses.tokens import TokenChange
from offswitch.metrics import compact
from offswitch.plots.style import signed


@dataclass(frozen=True)
class Measure:
    """A column of an analysis's table: its heading, and how it is read from the result."""

    name: str
    of: Callable[[Any], float]
    form: Callable[[float], str] = compact


@dataclass(frozen=True)
class Account:
    """How an analysis is told.

    The first measure is its headline; `reported` is what the seed gives for it; `tokens` are lists
    of tokens by what happened to them.
    """

    title: str
    measures: tuple[Measure, ...]
    why: Callable[[Finding[Any]], str]
    reported: str = ""
    tokens: tuple[tuple[str, Callable[[Any], Sequence[TokenChange]]], ...] = ()


def _percent(value: float) -> str:
    return f"{value:.2f} %"


def _whole(value: float) -> str:
    return f"{value:.0f}"


def _first_words(finding: Finding[Any]) -> str:
    distinct = len(set(finding.result.first_words))
    return (
        "At position 0 a causal model sees the symbol alone: one vector, the same for every "
        f"prompt, which centring removes. What is left is the spread of the prompts' {distinct} "
        f"distinct first words, which cannot need more than {distinct - 1} components, whatever "
        "the symbol."
    )


ACCOUNTS: Final[Mapping[str, Account]] = {
    "layerwise_delta_norm": Account(
        "Layerwise difference norm",
        (
            Measure("peak block", lambda r: r.peak, _whole),
            Measure("first 8 blocks", lambda r: r.early),
            Measure("last 8 blocks", lambda r: r.late),
            Measure("ratio", lambda r: r.ratio),
        ),
        lambda _: (
            "The symbol shifts every later token, so unlike tokens are compared, and the residual "
            "grows with depth: a late peak is to be expected of any prefix."
        ),
        "25",
    ),
    "lowrank_pca": Account(
        "Low-rank structure (PCA)",
        (
            Measure("PC1", lambda r: r.pc1, _percent),
            Measure("PC1 to PC3", lambda r: r.top3, _percent),
            Measure("for 90 %", lambda r: r.needed[0], _whole),
            Measure("for 95 %", lambda r: r.needed[1], _whole),
            Measure("for 99 %", lambda r: r.needed[2], _whole),
        ),
        _first_words,
        "91.77 %",
    ),
    "logit_lens_delta": Account(
        "Logit lens on the difference",
        (
            Measure("EOS", lambda r: r.eos, signed),
            Measure("PAD", lambda r: r.pad, signed),
            Measure("mean of all tokens", lambda r: r.mean, signed),
            Measure("standard deviation", lambda r: r.std),
        ),
        lambda _: (
            "It is read at position 0, where models keep activations of a size of their own, and "
            "without the final norm that would undo that size: what it shows may be the position, "
            "not the symbol."
        ),
        "+20.16",
        (
            ("most suppressed", lambda r: r.suppressed),
            ("most amplified", lambda r: r.amplified),
        ),
    ),
    "base_vs_finetuned_adl": Account(
        "Untrained against trained, on neutral text",
        (
            Measure("mean L2 norm", lambda r: r.mean),
            Measure("early third", lambda r: r.early),
            Measure("middle third", lambda r: r.middle),
            Measure("late third", lambda r: r.late),
            Measure(
                "share of the residual", lambda r: 100 * sum(r.relative) / len(r.relative), _percent
            ),
        ),
        lambda _: (
            "A norm has no scale of its own, and any fine-tune moves something: the number speaks "
            "only as a share of the residual and against arms that learnt something else."
        ),
        "1.41",
        (("fell most", lambda r: r.fell), ("rose most", lambda r: r.rose)),
    ),
}
