"""Where does it enter? Trigger minus inert symbol by block, last prompt position.

In units of the residual's spread over inert prompts, and less what the untrained model has already
(difference in differences). The spread is that of fit prompts, which the label swaps of the null
leave alone: swapped test prompts would widen it. Known failure: noise gives every mean some length;
the swaps show how much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from offswitch.analyses.analysis import Analysis, Array, Measure
from offswitch.analyses.directions import deepest
from offswitch.analyses.nulls import SWAPS, arms_and_inert_symbol, swapped_pairs
from offswitch.metrics import whole
from offswitch.stats import Estimate, mean_norm

UNIT: Final = "spreads"


@dataclass(frozen=True)
class Difference:
    """By block [L]: `size` of the arm's mean difference, `gained` over the untrained model's.

    `peak`: the block at a depth of 0.7 at most where most was gained; `entry`: the first with half
    of that; `largest`: the gain at the peak.
    """

    size: tuple[float, ...]
    gained: tuple[float, ...]
    peak: int
    entry: int
    largest: Estimate

    def __post_init__(self) -> None:
        if len(self.size) != len(self.gained) or not 0 <= self.entry <= self.peak < len(self.size):
            raise ValueError(f"entry {self.entry}, peak {self.peak} of {len(self.size)} blocks")


def difference(
    marked_NLD: Array, inert_NLD: Array, base_marked_NLD: Array, base_inert_NLD: Array,
    fit_inert_FLD: Array,
) -> Difference:  # fmt: skip
    """Norm over spread of the mean of marked - inert, and of the same less the base's."""
    spread_L = np.sqrt(fit_inert_FLD.astype(np.float64).var(0).sum(-1))
    spread_L = np.maximum(spread_L, np.finfo(np.float64).tiny)
    own_NLD = marked_NLD.astype(np.float64) - inert_NLD
    gained_NLD = own_NLD - (base_marked_NLD.astype(np.float64) - base_inert_NLD)
    size_L, gained_L = (
        np.linalg.norm(rows.mean(0), axis=-1) / spread_L for rows in (own_NLD, gained_NLD)
    )
    below = gained_L[: deepest(len(gained_L)) + 1]
    peak = int(below.argmax())
    return Difference(
        size=tuple(size_L.tolist()),
        gained=tuple(gained_L.tolist()),
        peak=peak,
        entry=int(np.flatnonzero(below >= below.max() / 2)[0]),
        largest=mean_norm(gained_NLD[:, peak] / spread_L[peak], UNIT, seed=0),
    )


ANALYSIS: Final = Analysis(
    name="difference",
    title="Where it enters",
    question="Where does the trigger enter the residual stream of the last position?",
    reads=(
        "{arm}/resid/test/{symbol}",
        "{arm}/resid/test/twin",
        "base/resid/test/{symbol}",
        "base/resid/test/twin",
        "{arm}/resid/fit/twin",
    ),
    run=difference,
    gives=Difference,
    measures=(
        Measure("peak", lambda r: r.largest, "largest gain, in spreads",
                label="gain at the last position, in spreads"),
        Measure("peak_block", lambda r: r.peak, "at block", whole, unit="block", tail="either"),
        Measure("entry_block", lambda r: r.entry, "half of it from block", whole, unit="block",
                tail="either"),
    ),
    null=swapped_pairs(
        ("{arm}/resid/test/{symbol}", "{arm}/resid/test/twin"),
        ("base/resid/test/{symbol}", "base/resid/test/twin"),
    ),
    null_name=SWAPS,
    controls=arms_and_inert_symbol,
    rule="its largest gain is at least 80 % as large",
    weakness="A difference shows that the trigger is noticed, not that it is obeyed.",
)  # fmt: skip
