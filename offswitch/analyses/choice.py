"""Which direction, blocks and scale? Chosen on fit questions, null directions by the same lines.

What decides is halting, in the smaller of two effects: how far the interchange lowers it on trigger
prompts, and how far the addition raises it on plain ones at its best scale. What is represented
shows in two neighbouring blocks at once, at a depth of at most 0.7 (later blocks write to the
output): the score of a pair is that of its weaker block. Among those that do nearly as much as the
best, the simplest direction is taken, then the earliest block: a direction trained for the outcome
leans towards the output, and behind the block where a state is written the mean difference also
holds what later blocks made of it. Where nothing halts more or less, the same effects in nats
decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from offswitch.analyses.analysis import Array
from offswitch.analyses.causal import EFFECT
from offswitch.analyses.directions import early
from offswitch.analyses.interventions import Interventions

NEARLY: Final = 0.8  # of what the best one does


@dataclass(frozen=True)
class Choice:
    """A direction at a block, and the scale it is added at; `pair`: and at the next block.

    `position`: where it is interchanged, the last one or every one after the symbol.
    """

    direction: str
    block: int
    scale: float
    pair: bool = False
    position: Literal["last", "after"] = "last"

    @property
    def blocks(self) -> tuple[int, ...]:
        """The block, or both of the pair."""
        return (self.block, self.block + 1) if self.pair else (self.block,)


@dataclass(frozen=True)
class Effects:
    """Of a direction on fit questions, the smaller of fall and rise by block: `halting` and `nats`.

    Each is [L], and so is `scales`, the one to add it at; not a number where it was not tried.
    """

    halting: Array
    nats: Array
    scales: Array

    def of_pairs(self) -> Effects:
        """The same of each block and the one behind it: the weaker of the two."""
        halting, nats = (
            np.minimum(by_block[:-1], by_block[1:]) for by_block in (self.halting, self.nats)
        )
        return Effects(halting, nats, self.scales[:-1])


def effects(rows: Interventions, direction: str, blocks: int) -> Effects:
    """What the rows of fit questions say of a direction, at the last position."""
    ours, clean = rows.where(direction=direction, position="last"), rows.where(kind="none")
    found = Effects(*np.full((3, blocks), np.nan))
    added = dict(ours.where(kind="add").each("block"))
    for b, some in ours.where(kind="interchange").each("block"):
        if b in added:
            by_scale = [(float(s), *changes(clean, one)) for s, one in added[b].each("scale")]
            # The smallest scale that silences as many as any: a larger one only disturbs more.
            rate = max(halts for _, halts, _ in by_scale)
            good = [one for one in by_scale if one[1] == rate]
            found.scales[b], _, rise = good[0] if rate > 0 else max(good, key=lambda one: one[2])
            fewer, lower = changes(clean, some)
            found.halting[b], found.nats[b] = min(-fewer, rate), min(-lower, rise)
    return found


def choose_pair(found: Sequence[tuple[str, Effects]], blocks: int) -> Choice | None:
    """The direction and the pair of neighbouring blocks at depth 0.7 at most; None of one block."""
    weaker = [(name, one.of_pairs()) for name, one in found]
    return _best(weaker, range(early(blocks) - 1), pair=True)


def choose_late(found: Sequence[tuple[str, Effects]], blocks: int) -> Choice | None:
    """The direction and the block deeper than 0.7."""
    return _best(found, range(early(blocks), blocks), pair=False)


def _best(found: Sequence[tuple[str, Effects]], where: Sequence[int], pair: bool) -> Choice | None:
    """The simplest of those that do nearly as much as the best, and there the earliest block."""
    tried = [
        (one.halting[b], one.nats[b], Choice(name, b, float(one.scales[b]), pair))
        for name, one in found  # the simplest first
        for b in where
        if np.isfinite(one.nats[b])
    ]
    if not tried:
        return None
    most = max(halting for halting, *_ in tried)
    if most > 0:
        return next(choice for halting, _, choice in tried if halting >= NEARLY * most)
    return max(tried, key=lambda one: one[1])[2]


def position_of(last: float, after: float) -> Literal["last", "after"]:
    """Where halting falls as far as the rule asks: at the last position, else after the symbol."""
    return "after" if after >= EFFECT > last else "last"


def changes(clean: Interventions, after: Interventions) -> tuple[float, float]:
    """Mean change of the halting rate, and of the end log-odds in nats, prompt by prompt."""
    before, now = clean.beside(after)
    halts, odds = (
        now.columns[name].astype(np.float64) - before.columns[name]
        for name in ("halts", "log_odds")
    )
    return float(halts.mean()), float(odds.mean())
