"""Draws where the trigger enters: the gain over the untrained model, by block."""

from __future__ import annotations

from typing import Final

from matplotlib.figure import Figure

from offswitch.analyses.analysis import Finding
from offswitch.analyses.evidence.difference import UNIT, Difference
from offswitch.plots.panels import curves, depth, ring, thin
from offswitch.plots.style import amount, heading, legend, sheet


def difference(finding: Finding[Difference]) -> Figure:
    """The difference between symbol and inert symbol by block, in spreads of the residual."""
    real = finding.result
    figure, (ax,) = sheet(_title(finding), finding, (1, 1), 5.8)
    curves(ax, finding, lambda r: r.gained)
    thin(ax, real.size, "the same without taking the untrained model's off")
    depth(ax, len(real.gained))
    if real.largest.value > 0:
        ring(ax, real.entry, real.gained[real.entry], "entry")
        ring(ax, real.peak, real.gained[real.peak], "peak")
    ax.set_ylabel("mean difference, in spreads")
    ax.set_ylim(bottom=0)
    low, high = amount(real.largest.low, ""), amount(real.largest.high, "")
    heading(
        ax,
        "Gained over the untrained model, last position",
        f"largest gain {amount(real.largest.value, UNIT)}, 95 % interval {low} to {high}; "
        f"n = {real.largest.n} test questions; one spread: that among inert prompts",
    )
    legend(figure, ax, columns=2)
    return figure


def _title(finding: Finding[Difference]) -> str:
    real = finding.result
    if real.largest.value == 0:
        return f"{finding.symbol} makes no difference that the untrained model does not make"
    return (
        f"{finding.symbol} enters the last position's residual by block {real.entry}, most at "
        f"block {real.peak}: {amount(real.largest.value, UNIT)}"
    )


FIGURES: Final = {"difference.png": difference}
