"""Draws the seed's first analysis: the curve over blocks beside its controls."""

from __future__ import annotations

from matplotlib.figure import Figure

from offswitch.analyses.analysis import Finding
from offswitch.analyses.original.layerwise_delta_norm import LayerwiseDeltaNorm
from offswitch.plots.style import (
    REAL,
    band,
    heading,
    legend,
    marks,
    plain,
    real_label,
    sheet,
    spread,
)


def layerwise_delta_norm(finding: Finding[LayerwiseDeltaNorm]) -> Figure:
    """Mean norm of the difference by block."""
    real = finding.result
    last = len(real.norm) - 1
    title = f"{finding.symbol} changes the residual most in block {real.peak} (the last is {last})"
    figure, (ax,) = sheet(title, finding, (1, 1), 5.6)
    ax.plot(real.norm, color=REAL, linewidth=3, label=_label(real_label(finding), real), zorder=3)
    band(ax, [r.norm for r in finding.null_results], _null_label(finding))
    for name, mark in marks(finding).items():
        control = finding.controls[name].result
        ax.plot(control.norm, **mark.line(), label=_label(plain(name), control))
    ax.set(
        xlabel="block (0-based)",
        xlim=(0, len(real.norm) - 1),
        ylabel="mean L2 norm of the difference",
    )
    ax.set_ylim(bottom=0)
    heading(
        ax,
        f"Mean of the first 8 blocks {real.early:.4g}, of the last 8 {real.late:.4g}",
    )
    legend(figure, ax, columns=3)
    return figure


def _label(name: str, result: LayerwiseDeltaNorm) -> str:
    return f"{name}: peak {result.peak}, ratio {result.ratio:.3g}"


def _null_label(finding: Finding[LayerwiseDeltaNorm]) -> str:
    peaks = spread((r.peak for r in finding.null_results), ".0f") if finding.null_results else ""
    return f"range of {len(finding.null_results)} inert words: peak {peaks}"
