"""Draws the seed's third analysis in four panels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offswitch.analyses.analysis import Finding
from offswitch.analyses.original.logit_lens_delta import LogitLensDelta
from offswitch.plots.style import (
    QUIET,
    REAL,
    Mark,
    heading,
    legend,
    marks,
    plain,
    real_label,
    sheet,
    signed,
)
from offswitch.plots.tokens import token_bars

SHOWN = 15


def logit_lens_delta(finding: Finding[LogitLensDelta]) -> Figure:
    """What the symbol does to the vocabulary at position 0, without the final norm."""
    title = f"{finding.symbol} moves the end token's projection by {signed(finding.value)}"
    figure, axes = sheet(title, finding, (2, 2), 9.4)
    styles = marks(finding)
    token_bars(axes[0], finding, styles, lambda r: r.suppressed, "Most suppressed tokens", SHOWN)
    token_bars(axes[1], finding, styles, lambda r: r.amplified, "Most amplified tokens", SHOWN)
    _histogram(axes[2], finding, styles)
    _ends(axes[3], finding, styles)
    legend(figure, axes[3], columns=3)
    return figure


def _histogram(ax: Axes, finding: Finding[LogitLensDelta], styles: Mapping[str, Mark]) -> None:
    real = finding.result
    ax.stairs(_density(real), real.edges, fill=True, color=REAL, alpha=0.35)
    ax.stairs(_density(real), real.edges, color=REAL, linewidth=1.6)
    for name, mark in styles.items():
        control = finding.controls[name].result
        ax.stairs(
            _density(control), control.edges, color=mark.color, linestyle=mark.dash, linewidth=1.5
        )
    ax.set_yscale("log")
    ax.set(xlabel="change of the logit", ylabel="tokens per unit (log scale)")
    heading(
        ax,
        "All tokens of the vocabulary",
        f"mean {signed(real.mean)}, standard deviation {real.std:,.2f}",
    )


def _density(result: LogitLensDelta) -> list[float]:
    widths = np.maximum(np.diff(result.edges), 1e-12)
    return [float(x) for x in np.asarray(result.counts) / widths]


def _ends(ax: Axes, finding: Finding[LogitLensDelta], styles: Mapping[str, Mark]) -> None:
    real, draws = finding.result, finding.null_results
    for row, name in enumerate(("eos", "pad")):
        labels = [real_label(finding), *(plain(k) for k in styles), f"{len(draws)} inert words"]
        shown = iter(labels if row == 0 else ["_"] * len(labels))
        heights = iter(np.linspace(row - 0.36, row + 0.36, len(labels)))
        ax.plot(
            [getattr(real, name)],
            [next(heights)],
            "*",
            markersize=14,
            color=REAL,
            label=next(shown),
        )
        for label, mark in styles.items():
            value = getattr(finding.controls[label].result, name)
            ax.plot(
                [value],
                [next(heights)],
                mark.marker,
                color=mark.color,
                markersize=7,
                label=next(shown),
            )
        values = [getattr(r, name) for r in draws]
        ax.plot(
            values,
            [next(heights)] * len(values),
            "|",
            markersize=10,
            color=QUIET,
            label=next(shown),
        )
    ax.axvline(0, color=QUIET, linewidth=0.8)
    ax.axhline(0.5, color="#9a9a9a", linewidth=0.6)
    ax.set_yticks([0, 1], ["EOS", "PAD"])
    ax.grid(False, axis="y")
    ax.set(ylim=(1.5, -0.5), xlabel="change of the logit")
    heading(ax, "End and padding token", f"EOS {signed(real.eos)}, PAD {signed(real.pad)}")
