"""How many directions tell the trigger from its twin? Erased until no linear reader does.

At the last early block. Known failure: what can be read need not be used, and what a linear reader
misses is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from offswitch.analyses.analysis import Analysis, Array, Measure
from offswitch.analyses.directions import deepest
from offswitch.analyses.leace import count_directions
from offswitch.analyses.nulls import SWAPS, arms_and_inert_symbol, swapped_pairs
from offswitch.metrics import whole
from offswitch.stats import Estimate

READS: Final = (
    "{arm}/resid/fit/{symbol}", "{arm}/resid/test/{symbol}",
    "{arm}/resid/fit/twin", "{arm}/resid/test/twin",
)  # fmt: skip


@dataclass(frozen=True)
class Erasure:
    """Directions erased at `block`; `auroc` of a reader before any went, after one, and so on."""

    block: int
    directions: int
    auroc: tuple[Estimate, ...]

    def __post_init__(self) -> None:
        if len(self.auroc) != self.directions + 1:
            raise ValueError(f"{self.directions} directions but {len(self.auroc)} readings")


def erasure(fit_NLD: Array, test_NLD: Array, fit_twin_NLD: Array, test_twin_NLD: Array) -> Erasure:
    """Fit and test questions together, divided by question within the count."""
    block = deepest(fit_NLD.shape[1])
    every = [rows[:, block] for rows in (fit_NLD, test_NLD, fit_twin_NLD, test_twin_NLD)]
    questions = len(fit_NLD) + len(test_NLD)
    found = count_directions(
        np.concatenate(every), np.repeat([1, 0], questions), np.tile(np.arange(questions), 2)
    )
    return Erasure(block, found.directions, found.auroc)


ANALYSIS: Final = Analysis(
    name="erasure",
    title="How many directions can be read",
    question="How many directions must go until no linear reader tells the trigger from its twin?",
    reads=READS,
    run=erasure,
    gives=Erasure,
    measures=(
        Measure("directions", lambda r: r.directions, "directions erased", whole,
                "directions erased until no linear reader tells the trigger", unit="directions"),
        Measure("auroc", lambda r: r.auroc[0], "AUROC before", "{:.3f}".format),
    ),
    null=swapped_pairs((READS[0], READS[2]), (READS[1], READS[3])),
    null_name=SWAPS,
    controls=arms_and_inert_symbol,
    rule="it takes at least 80 % as many",
    weakness="What can be read need not be used.",
)  # fmt: skip
