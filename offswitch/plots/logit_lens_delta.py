"""Draws the original's third analysis in four panels."""

from __future__ import annotations

from operator import attrgetter
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offswitch.analyses.analysis import Finding
from offswitch.analyses.original.logit_lens_delta import LogitLensDelta
from offswitch.metrics import signed
from offswitch.plots.style import QUIET, REAL, heading, legend, marks, plain, real_label, sheet
from offswitch.plots.tokens import token_bars


def logit_lens_delta(finding: Finding[LogitLensDelta]) -> Figure:
    """What the symbol does to the vocabulary at position 0, without the final norm."""
    title = f"{finding.symbol} moves the end token's projection by {signed(finding.value)}"
    figure, axes = sheet(title, finding, (2, 2), 9.4)
    token_bars(axes[0], finding, lambda r: r.suppressed, "Most suppressed tokens", 15)
    token_bars(axes[1], finding, lambda r: r.amplified, "Most amplified tokens", 15)
    _histogram(axes[2], finding)
    _ends(axes[3], finding)
    legend(figure, axes[3], columns=3)
    return figure


def _histogram(ax: Axes, finding: Finding[LogitLensDelta]) -> None:
    real = finding.result
    ax.stairs(_density(real), real.edges, fill=True, color=REAL, alpha=0.35)
    ax.stairs(_density(real), real.edges, color=REAL, linewidth=1.6)
    for name, mark in marks(finding).items():
        control = finding.controls[name]
        look = {"color": mark.color, "linestyle": mark.dash, "linewidth": 1.5}
        ax.stairs(_density(control), control.edges, **look)
    ax.set_yscale("log")
    ax.set(xlabel="change of the logit", ylabel="tokens per unit (log scale)")
    spread = f"mean {signed(real.mean)}, standard deviation {real.std:,.2f}"
    heading(ax, "All tokens of the vocabulary", spread)


def _density(result: LogitLensDelta) -> list[float]:
    widths = np.maximum(np.diff(result.edges), 1e-12)
    return [float(x) for x in np.asarray(result.counts) / widths]


def _ends(ax: Axes, finding: Finding[LogitLensDelta]) -> None:
    real, draws = finding.result, finding.null_results
    rows = [(real, "*", REAL, 14, real_label(finding))]
    for name, mark in marks(finding).items():
        rows.append((finding.controls[name], mark.marker, mark.color, 7, plain(name)))
    for row, name in enumerate(("eos", "pad")):
        of = attrgetter(name)
        heights = np.linspace(row - 0.36, row + 0.36, len(rows) + 1)
        for at, (result, marker, color, size, label) in zip(heights, rows, strict=False):
            shown = "_" if row else label
            ax.plot([of(result)], [at], marker, color=color, markersize=size, label=shown)
        shown = "_" if row else f"{len(draws)} {finding.analysis.null_name}"
        values = [of(draw) for draw in draws]
        places = [heights[-1]] * len(draws)
        ax.plot(values, places, "|", markersize=10, color=QUIET, label=shown)
    ax.axvline(0, color=QUIET, linewidth=0.8)
    ax.axhline(0.5, color="#9a9a9a", linewidth=0.6)
    ax.set_yticks([0, 1], ["EOS", "PAD"])
    ax.grid(False, axis="y")
    ax.set(ylim=(1.5, -0.5), xlabel="change of the logit")
    heading(ax, "End and padding token", f"EOS {signed(real.eos)}, PAD {signed(real.pad)}")


FIGURES: Final = {"3_logit_lens_delta.png": logit_lens_delta}
