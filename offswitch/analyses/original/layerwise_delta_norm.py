"""The original's first: in which block does the symbol change the residuals most?

Positions are compared index by index although the symbol shifts them, and the residual grows with
depth, so the peak is late for any prefix whatever. Reproduced as the original has it; read
it beside its controls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from offswitch.analyses.analysis import Analysis, Array, Measure
from offswitch.analyses.nulls import ORIGINAL, inert_symbols, untrained_and_control
from offswitch.metrics import whole

EDGE: Final = 8


@dataclass(frozen=True)
class LayerwiseDeltaNorm:
    """Mean L2 norm of the difference per block [L], its 0-based peak, means of outer blocks."""

    norm: tuple[float, ...]
    peak: int
    early: float
    late: float

    def __post_init__(self) -> None:
        if not 0 <= self.peak < len(self.norm):
            raise ValueError(f"peak {self.peak} is not one of {len(self.norm)} blocks")

    @property
    def ratio(self) -> float:
        """The last blocks' mean over the first blocks'; 0 where nothing differs."""
        return self.late / self.early if self.early > 0 else 0.0


def layerwise_delta_norm(plain_PLD: Array, marked_PLD: Array) -> LayerwiseDeltaNorm:
    """Per block, the mean over the first min(P) positions of ||marked[t] - plain[t]||.

    Early and late are the means of the first and last 8 blocks, or of all blocks in a shallower
    model.
    """
    shared = min(len(plain_PLD), len(marked_PLD))
    delta = marked_PLD[:shared].astype(np.float64) - plain_PLD[:shared]
    norm_L = np.linalg.norm(delta, axis=-1).mean(axis=0)
    return LayerwiseDeltaNorm(
        norm=tuple(norm_L.tolist()),
        peak=int(norm_L.argmax()),
        early=float(norm_L[:EDGE].mean()),
        late=float(norm_L[-EDGE:].mean()),
    )


ANALYSIS: Final = Analysis(
    name="layerwise_delta_norm",
    title="Layerwise difference norm",
    keys=ORIGINAL,
    question="In which block does the trigger change the residual stream most?",
    reads=("{arm}/pair/plain", "{arm}/pair/{symbol}"),
    run=layerwise_delta_norm,
    gives=LayerwiseDeltaNorm,
    measures=(
        Measure("layerwise_peak", lambda r: float(r.peak), "peak block", whole, unit="block",
                tail="either"),
        Measure("", lambda r: r.early, "first 8 blocks"),
        Measure("", lambda r: r.late, "last 8 blocks"),
        Measure("", lambda r: r.ratio, "ratio"),
    ),
    null=inert_symbols,
    controls=untrained_and_control,
    rule="its peak lies within one block of the real one",
    passes=lambda real, control: abs(real.peak - control.peak) <= 1,
    weakness="The symbol shifts every later token, so unlike tokens are compared, and the residual "
    "grows with depth: a late peak is to be expected of any prefix.",
    reported="25",
)  # fmt: skip
