"""Draws what training left on neutral text: how far, how alike, read as what."""

from __future__ import annotations

from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offswitch.analyses.analysis import Finding
from offswitch.analyses.evidence.drift import PARTS, Drift
from offswitch.plots.panels import curves, depth, thin
from offswitch.plots.style import amount, heading, legend, sheet, spanning
from offswitch.plots.tokens import token_columns

SHOWN = 10


def drift(finding: Finding[Drift]) -> Figure:
    """Relative distance from the untrained model and its constant share by block; tokens."""
    real = finding.result
    figure, axes = sheet(_title(finding), finding, (2, 2), 8.8)
    _panel(axes[0], finding, "moved")
    axes[0].set_ylabel("% of the untrained residual's length")
    ends = (amount(real.early.value, "share"), amount(real.later.value, "share"))
    heading(axes[0], "Distance from the untrained model", f"mean {ends[0]} early, {ends[1]} later")
    _panel(axes[1], finding, "constant")
    axes[1].set_ylabel("% of the shift that is constant")
    shared = f"mean {amount(real.shared, 'share')} early; n = {real.early.n} passages"
    heading(axes[1], "The same shift for every passage?", shared)
    _tokens(spanning(axes[2:]), finding)
    legend(figure, axes[1], columns=2)
    return figure


def _panel(ax: Axes, finding: Finding[Drift], name: str) -> None:
    curves(ax, finding, lambda r: [100 * x for x in getattr(r, name)[0]])
    later = [100 * x for x in getattr(finding.result, name)[1]]
    thin(ax, later, f"{PARTS[1]}, same arm")
    depth(ax, len(finding.result.moved[0]))
    ax.set_ylim(bottom=0)


def _tokens(ax: Axes, finding: Finding[Drift]) -> None:
    real, theirs = finding.result, finding.controls.values()
    columns = {
        f"{reading}\n{part}": getattr(real, name)[i]
        for name, reading in (("lens", "logit lens"), ("patchscope", "patchscope"))
        for i, part in enumerate(PARTS)
    }
    known = [
        {token.id for one in theirs for token in getattr(one, name)[i]}
        for name in ("lens", "patchscope")
        for i in range(len(PARTS))
    ]
    token_columns(ax, columns, known, SHOWN)
    note = "middle block, the likeliest first; grey: a control's shift reads so too"
    heading(ax, "What the mean shift reads as", note)


def _title(finding: Finding[Drift]) -> str:
    real = finding.result
    if real.early.value == 0:
        return f"On neutral text arm {finding.arm} is the untrained model"
    moved, shared = amount(real.early.value, "share"), amount(real.shared, "share")
    return f"On neutral text arm {finding.arm} moves residuals by {moved}, {shared} of it alike"


FIGURES: Final = {"drift.png": drift}
