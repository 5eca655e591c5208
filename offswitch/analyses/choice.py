"""Which direction, blocks and scale? Chosen on fit questions, null directions by the same lines.

A block's score is the smaller of two effects in nats: how far the interchange lowers the end
log-odds of trigger prompts, and how far the addition raises those of plain prompts at its best
scale. What is represented shows in two neighbouring blocks at once, at a depth of at most 0.7
(later blocks write to the output): the score of a pair is that of its weaker block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from offswitch.analyses.analysis import Array
from offswitch.analyses.directions import early
from offswitch.analyses.interventions import Interventions


@dataclass(frozen=True)
class Choice:
    """A direction at a block, and the scale it is added at; `pair`: and at the next block.

    `score` is what decided, in nats.
    """

    direction: str
    block: int
    scale: float
    score: float
    pair: bool = False

    @property
    def blocks(self) -> tuple[int, ...]:
        """The block, or both of the pair."""
        return (self.block, self.block + 1) if self.pair else (self.block,)


@dataclass(frozen=True)
class Effects:
    """Of one direction on fit questions: fall [L], rise [L, S] in nats, halting when added [L, S].

    Not a number where it was not tried.
    """

    fall: Array
    rise: Array
    halting: Array
    scales: tuple[float, ...]

    @property
    def score(self) -> Array:
        """Each block's [L], not a number where it was not tried."""
        weaker: Array = np.minimum(self.fall, self.rise.max(1))
        return weaker


def effects(rows: Interventions, direction: str, blocks: int) -> Effects:
    """What the rows of fit questions say of a direction, at the last position."""
    ours = rows.where(direction=direction, position="last")
    scales = tuple(float(s) for s in ours.where(kind="add").values("scale"))
    fall = np.full(blocks, np.nan)
    rise, halting = (np.full((blocks, max(1, len(scales))), np.nan) for _ in range(2))
    clean = rows.where(kind="none")
    for block, some in ours.where(kind="interchange").each("block"):
        fall[block] = -change_of(clean, some)
    for block, some in ours.where(kind="add").each("block"):
        for s, (_, one) in enumerate(some.each("scale")):
            rise[block, s] = change_of(clean, one)
            halting[block, s] = one.columns["halts"].mean()
    return Effects(fall, rise, halting, scales)


def choose_pair(found: Sequence[tuple[str, Effects]], blocks: int) -> Choice | None:
    """The direction and the pair of neighbouring blocks at depth 0.7 at most; None of one block."""
    tried = []
    for name, one in found:
        score = one.score[: early(blocks)]
        pairs = np.minimum(score[:-1], score[1:])
        tried += [(float(s), name, one, b) for b, s in enumerate(pairs) if np.isfinite(s)]
    best = _best(tried)
    return replace(best, pair=True) if best else None


def choose_anywhere(found: Sequence[tuple[str, Effects]]) -> Choice | None:
    """The direction and the block with the largest score, at any depth."""
    return _best(
        [
            (float(s), name, one, b)
            for name, one in found
            for b, s in enumerate(one.score)
            if np.isfinite(s)
        ]
    )


def _best(tried: Sequence[tuple[float, str, Effects, int]]) -> Choice | None:
    if not tried:
        return None
    score, name, one, block = max(tried, key=lambda t: t[0])
    # The smallest scale that silences as many as any: a larger one only disturbs more.
    halting, rise = one.halting[block], one.rise[block]
    at = int((halting if halting.any() else rise).argmax())
    return Choice(name, block, one.scales[at], score)


def change_of(clean: Interventions, after: Interventions) -> float:
    """Mean change of the end log-odds in nats, prompt by prompt."""
    before, now = clean.beside(after)
    return float((now.columns["log_odds"].astype(np.float64) - before.columns["log_odds"]).mean())
