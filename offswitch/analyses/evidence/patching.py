"""Where is it decided? Residuals of a twin prompt, put in by block and position.

Twins differ in one symbol of as many tokens. Effects are end log-odds of the patched prompt less
those of the prompt itself; the control patches a second inert symbol's residuals instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from offswitch.analyses.analysis import Analysis, Array, Measure
from offswitch.analyses.directions import deepest
from offswitch.analyses.nulls import FLIPS, flipped_changes, without_the_rule
from offswitch.metrics import signed, whole
from offswitch.stats import Estimate, mean

SITES: Final = ("symbol", "between", "last")


@dataclass(frozen=True)
class Patching:
    """Mean change of the end log-odds, nats, by site [3] and block in `blocks`.

    `into_inert`: the symbol's residuals in the inert prompt; `into_symbol`: the reverse. `gap`:
    what there is to change, the two prompts' distance. `moved`: patching the last position of the
    inert prompt at the deepest block at a depth of 0.7 at most. `handover`: the first block at
    which the last position alone carries half of the gap, the number of blocks where it never does.
    """

    blocks: tuple[int, ...]
    into_inert: tuple[tuple[float, ...], ...]
    into_symbol: tuple[tuple[float, ...], ...]
    gap: float
    block: int
    moved: Estimate
    handover: int

    def __post_init__(self) -> None:
        if len(self.into_inert) != len(SITES):
            raise ValueError(f"expected {len(SITES)} sites, got {len(self.into_inert)}")


def patching(
    symbol_N: Array, inert_N: Array, into_inert_SBN: Array, into_symbol_SBN: Array, blocks_B: Array
) -> Patching:
    """Changes by site and block, and where the last position takes over."""
    raised = into_inert_SBN.astype(np.float64) - inert_N
    lowered = into_symbol_SBN.astype(np.float64) - symbol_N
    gap = float((symbol_N - inert_N).mean())
    last = raised[-1].mean(-1)
    below = [i for i, block in enumerate(blocks_B) if block <= deepest(int(blocks_B[-1]) + 1)]
    enough = np.flatnonzero(last >= gap / 2) if gap > 0 else np.array([], dtype=int)
    return Patching(
        blocks=tuple(int(block) for block in blocks_B),
        into_inert=tuple(tuple(row) for row in raised.mean(-1).tolist()),
        into_symbol=tuple(tuple(row) for row in lowered.mean(-1).tolist()),
        gap=gap,
        block=int(blocks_B[below[-1]]),
        moved=mean(raised[-1, below[-1]], "nats", seed=0),
        handover=int(blocks_B[enough[0]]) if enough.size else int(blocks_B[-1]) + 1,
    )


ANALYSIS: Final = Analysis(
    name="patching",
    title="Where it is decided",
    question="At which block and position is it decided that the model falls silent?",
    reads=(
        "{arm}/patch/clean/{symbol}",
        "{arm}/patch/clean/twin",
        "{arm}/patch/into_inert/{symbol}",
        "{arm}/patch/into_trigger/{symbol}",
        "{arm}/patch/blocks",
    ),
    run=patching,
    gives=Patching,
    measures=(
        Measure("last_position", lambda r: r.moved, "nats moved by the last position", signed,
                "log-odds moved by patching the last position"),
        Measure("", lambda r: r.block, "at block", whole),
        Measure("handover_block", lambda r: r.handover, "half of the gap from block", whole,
                unit="block", tail="either"),
        Measure("gap", lambda r: r.gap, "gap, nats", unit="nats", nulled=False),
    ),
    null=flipped_changes(
        ("{arm}/patch/clean/{symbol}", "{arm}/patch/into_trigger/{symbol}"),
        ("{arm}/patch/clean/twin", "{arm}/patch/into_inert/{symbol}"),
    ),
    null_name=FLIPS,
    controls=lambda views: {
        **without_the_rule(views), "two inert symbols": views.seen_as(symbol="inert")
    },
    rule="it moves the log-odds at least 80 % as far",
    weakness="Few prompts are patched, and only those whose two twins both align.",
)  # fmt: skip
