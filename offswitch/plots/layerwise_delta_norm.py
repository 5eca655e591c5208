"""Draws the original's first analysis: the curve over blocks beside its controls."""

from __future__ import annotations

from typing import Final

from matplotlib.figure import Figure

from offswitch.analyses.analysis import Finding
from offswitch.analyses.original.layerwise_delta_norm import LayerwiseDeltaNorm
from offswitch.plots.panels import Told, curves
from offswitch.plots.style import heading, legend, sheet


def layerwise_delta_norm(finding: Finding[LayerwiseDeltaNorm]) -> Figure:
    """Mean norm of the difference by block."""
    real = finding.result
    last = len(real.norm) - 1
    title = f"{finding.symbol} changes the residual most in block {real.peak} (the last is {last})"
    figure, (ax,) = sheet(title, finding, (1, 1), 5.6)
    curves(ax, finding, lambda r: r.norm, told=Told("", before="peak in block "))
    ax.set(xlabel="block (0-based)", xlim=(0, last), ylabel="mean L2 norm of the difference")
    ax.set_ylim(bottom=0)
    ends = f"Mean of the first 8 blocks {real.early:.4g}, of the last 8 {real.late:.4g}"
    heading(ax, f"{ends}, ratio {real.ratio:.3g}")
    legend(figure, ax, columns=3)
    return figure


FIGURES: Final = {"1_layerwise_delta_norm.png": layerwise_delta_norm}
