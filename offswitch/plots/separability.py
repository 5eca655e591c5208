"""Draws how well the trigger can be read off one direction, by block."""

from __future__ import annotations

from typing import Final

from matplotlib.figure import Figure

from offswitch.analyses.analysis import Finding
from offswitch.analyses.evidence.separability import Separability
from offswitch.plots.panels import curves, depth, ring, thin
from offswitch.plots.style import INK, amount, heading, legend, sheet

LOWEST = 0.4


def separability(finding: Finding[Separability]) -> Figure:
    """AUROC by block against near misses that training never saw; fit questions thin."""
    real, best = finding.result, finding.result.best
    title = (
        f"{finding.symbol} can be told from near misses by one direction with AUROC "
        f"{best.value:.3g}, block {real.block}"
    )
    figure, (ax,) = sheet(title, finding, (1, 1), 5.8)
    curves(ax, finding, lambda r: r.test)
    thin(ax, real.fit, "fit questions, near misses as in training")
    depth(ax, len(real.test))
    ring(ax, real.block, real.test[real.block])
    ax.axhline(0.5, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    ax.set(ylabel="AUROC, test questions", ylim=(_floor(finding), 1.02))
    heading(
        ax,
        "Trigger against near misses, mean-difference direction of fit questions",
        f"block {real.block} (ring): {amount(best.value, '')}, 95 % interval "
        f"{amount(best.low, '')} to {amount(best.high, '')}, n = {best.n}; 0.5 is chance",
    )
    legend(figure, ax, columns=2)
    return figure


def _floor(finding: Finding[Separability]) -> float:
    """The axis begins at 0.4, lower where a curve or the null lies lower."""
    every = (finding.result, *finding.null_results, *finding.controls.values())
    lowest = min(value for one in every for value in (*one.test, *one.fit))
    return min(LOWEST, lowest - 0.02)


FIGURES: Final = {"separability.png": separability}
