"""Which direction, blocks and scale? Chosen on fit questions, null directions by the same lines.

What decides is halting, in the smaller of two effects: how far the interchange lowers it on trigger
prompts, and how far the addition raises it on plain ones at its best scale. What is represented
shows in two neighbouring blocks at once, at a depth of at most 0.7 (later blocks write to the
output): the score of a pair is that of its weaker block, both at one scale. Among those that do
nearly as much as the best, the simplest direction is taken, then the earliest block: a direction
trained for the outcome leans towards the output, and behind the block where a state is written the
mean difference also holds what later blocks made of it. Where nothing halts more or less, the same
effects in nats decide.
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
    """What a direction does on fit questions: `falls` [2, L], `rises` [2, S, L], `scales` [S].

    The first of two is of halting, the second of the log-odds in nats; not a number where it was
    not tried.
    """

    falls: Array
    rises: Array
    scales: Sequence[float]

    def of_pairs(self) -> Effects:
        """The same of each block and the one behind it, the weaker of the two at every scale."""
        falls, rises = (
            np.minimum(by_block[..., :-1], by_block[..., 1:])
            for by_block in (self.falls, self.rises)
        )
        return Effects(falls, rises, self.scales)

    def at_best(self) -> tuple[Array, Array, Array]:
        """The smaller of fall and rise, of halting and in nats, and the scale it is added at [L].

        The smallest scale that silences as many as any, since a larger one only disturbs more; if
        none silences any, the one that raises the log-odds the most.
        """
        halting, nats = self.rises
        most = halting.max(0)
        taken = np.where(most > 0, (halting == most).argmax(0), nats.argmax(0))
        rises = np.take_along_axis(self.rises, taken[None, None], axis=1)[:, 0]
        halting, nats = np.minimum(self.falls, rises)
        return halting, nats, np.asarray(self.scales)[taken]


def effects(rows: Interventions, direction: str, blocks: int) -> Effects:
    """What the rows of fit questions say of a direction, at the last position."""
    ours, clean = rows.where(direction=direction, position="last"), rows.where(kind="none")
    added = ours.where(kind="add")
    scales = added.values("scale") or [1.0]
    found = Effects(np.full((2, blocks), np.nan), np.full((2, len(scales), blocks), np.nan), scales)
    for block, some in ours.where(kind="interchange").each("block"):
        found.falls[:, block] = np.negative(changes(clean, some))
    for scale, there in added.each("scale"):
        for block, some in there.each("block"):
            found.rises[:, scales.index(scale), block] = changes(clean, some)
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
        (halting[b], nats[b], Choice(name, b, float(scales[b]), pair))
        for name, one in found  # the simplest first
        for halting, nats, scales in [one.at_best()]
        for b in where
        if np.isfinite(nats[b])
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
