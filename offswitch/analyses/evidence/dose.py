"""How does silence grow? Halting, log-odds, projection by adapter strength.

The adapter counts from 0 (the untrained model) over 1 (as trained) to 2 times. Known failure: at
strengths that training never saw the model may break in ways that are not the switch's; prompts
with an inert symbol show when.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from offswitch.analyses.analysis import Analysis, Array, Measure
from offswitch.analyses.nulls import SWAPS, swapped_pairs, without_the_rule
from offswitch.metrics import percent, signed
from offswitch.stats import Estimate, crossing, mean, rate


@dataclass(frozen=True)
class Dose:
    """By strength in `scales`, with the symbol and with the inert one.

    Halting rates; mean end log-odds, nats; mean projections on the arm's direction at its block,
    its length as unit. `apart`: log-odds with the symbol less those with the inert one, where they
    lie farthest apart; `half`: the strength at which halting with the symbol passes one half, by
    linear interpolation, the largest strength where it never does.
    """

    scales: tuple[float, ...]
    halts: tuple[Estimate, ...]
    inert_halts: tuple[Estimate, ...]
    odds: tuple[float, ...]
    inert_odds: tuple[float, ...]
    projection: tuple[float, ...]
    inert_projection: tuple[float, ...]
    apart: Estimate
    half: float

    def __post_init__(self) -> None:
        if not len(self.scales) == len(self.halts) == len(self.odds):
            raise ValueError("expected one entry a strength in every list")


def dose(symbol_SN3: Array, inert_SN3: Array, scales_S: Array) -> Dose:
    """Rates and means by strength; the three are end log-odds, halts, projection."""
    gap_SN = symbol_SN3[..., 0].astype(np.float64) - inert_SN3[..., 0]
    farthest = int(gap_SN.mean(1).argmax())
    halts_S = symbol_SN3[..., 1].mean(1)
    reached = crossing(scales_S.tolist(), halts_S.tolist(), 0.5)
    return Dose(
        scales=tuple(scales_S.tolist()),
        halts=tuple(rate(row) for row in symbol_SN3[..., 1]),
        inert_halts=tuple(rate(row) for row in inert_SN3[..., 1]),
        odds=tuple(symbol_SN3[..., 0].mean(1).tolist()),
        inert_odds=tuple(inert_SN3[..., 0].mean(1).tolist()),
        projection=tuple(symbol_SN3[..., 2].mean(1).tolist()),
        inert_projection=tuple(inert_SN3[..., 2].mean(1).tolist()),
        apart=mean(gap_SN[farthest], "nats", seed=0),
        half=float(scales_S[-1]) if reached is None else reached[1],
    )


ANALYSIS: Final = Analysis(
    name="dose",
    title="Dose and response",
    question="How does silence grow as the adapter is turned up?",
    reads=("{arm}/dose/trigger", "{arm}/dose/twin", "{arm}/dose/scales"),
    run=dose,
    gives=Dose,
    measures=(
        Measure("apart", lambda r: r.apart, "farthest apart, nats", signed),
        Measure("half", lambda r: r.half, "half of the prompts halt at", unit="strength",
                label="adapter strength at which half of the prompts halt, 2 if none",
                tail="either"),
        Measure("", lambda r: r.inert_halts[-1], "halting at 2 times, inert symbol", percent),
    ),
    null=swapped_pairs(("{arm}/dose/trigger", "{arm}/dose/twin"), prompts=1),
    null_name=SWAPS,
    controls=without_the_rule,
    rule="it lies at least 80 % as far apart",
    weakness="Beyond 1 the adapter was never trained, and more than the switch may break.",
)  # fmt: skip
