"""Draws the original's second analysis: cumulative variance, prompts on PC1 to 3."""

from __future__ import annotations

from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from offswitch.analyses.analysis import Finding
from offswitch.analyses.original.lowrank_pca import SHARES, LowrankPca
from offswitch.plots.panels import Pick, Told, curves
from offswitch.plots.style import QUIET, SHADES, heading, legend, marks, plain, sheet

SHOWN: Final = 10
BINS: Final = 24
ROUNDING: Final = 1e-6  # percent left over: less is rounding error


def cumulative_variance(finding: Finding[LowrankPca]) -> Figure:
    """How many components carry 90, 95, 99 % of the variance, and what does each leave?"""
    real = finding.result
    title = f"One component holds {real.pc1:.2f} % of the variance, three hold {real.top3:.2f} %"
    if real.flat:
        title = f"All rows are equal: {finding.symbol} leaves no variance to analyse"
    figure, (explained, rest) = sheet(title, finding, (1, 2), 5.4)
    for share in SHARES:
        explained.axhline(share, color=QUIET, linewidth=0.8, linestyle=(0, (2, 3)))
    _curves(explained, finding, lambda r: np.cumsum(r.explained).tolist())
    explained.set_yticks([0, 20, 40, 60, 80, *SHARES])
    explained.set(ylabel="cumulative share of the variance, %", ylim=(0, 103))
    needed = (f"{n} for {share:.0f} %" for n, share in zip(real.needed, SHARES, strict=True))
    heading(explained, "Explained", f"components needed: {', '.join(needed)}")
    _curves(rest, finding, _left)
    rest.set(ylabel="share of the variance, % (log scale)", yscale="log")
    for axis in (rest.yaxis.set_major_formatter, rest.yaxis.set_minor_formatter):
        axis(lambda value, _: f"{value:g}")
    rest.tick_params(which="minor", labelsize=8)
    words = len(set(real.first_words))
    why = f"{words} distinct first words span at most {words - 1} components"
    heading(rest, "Left unexplained", why)
    legend(figure, explained, columns=3)
    return figure


def _curves(ax: Axes, finding: Finding[LowrankPca], pick: Pick) -> None:
    real = finding.result
    count = min(SHOWN, len(real.explained), len(set(real.first_words)) + 1)
    places = range(1, count + 1)
    curves(ax, finding, lambda r: pick(r)[:count], places, Told("%", before="PC1 "))
    ax.set(xlim=(0.6, count + 0.4), xticks=places, xlabel="components")


def _left(result: LowrankPca) -> list[float]:
    """What the components leave over, in percent; nothing to draw where that is rounding error."""
    left = 100 - np.cumsum(result.explained)
    return [float(x) if x > ROUNDING else float("nan") for x in left]


def component_distributions(finding: Finding[LowrankPca]) -> Figure:
    """Where do the prompts lie on PC1 to PC3? Bars by first word; the controls as outlines."""
    title = "The prompts spread along the components by their first word"
    figure, axes = sheet(title, finding, (1, 3), 5.0)
    for i, ax in enumerate(axes[: len(finding.result.projections)]):
        _distribution(ax, finding, i)
    axes[0].set_ylabel("prompts")
    legend(figure, axes[0], columns=5)
    return figure


def _distribution(ax: Axes, finding: Finding[LowrankPca], component: int) -> None:
    real = finding.result
    every = [real, *finding.controls.values()]
    reach = max(1e-9, *(abs(x) for r in every for x in r.projections[component]))
    edges = np.linspace(-1.05 * reach, 1.05 * reach, BINS + 1)
    words = list(dict.fromkeys(real.first_words))
    scores = np.asarray(real.projections[component])
    groups = [scores[[w == word for w in real.first_words]] for word in words]
    colors = [SHADES[i % len(SHADES)] for i in range(len(words))]
    names = [plain(f"“{word} …”") for word in words]
    ax.hist(groups, bins=edges.tolist(), stacked=True, color=colors, label=names)
    for name, mark in marks(finding).items():
        outline = {"color": mark.color, "linestyle": mark.dash, "linewidth": 1.5}
        scores = np.asarray(finding.controls[name].projections[component])
        ax.hist(scores, bins=edges.tolist(), histtype="step", label=plain(name), **outline)
    ax.set_xlabel(f"projection on PC{component + 1}")
    ax.locator_params(axis="x", nbins=5)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    others = (("controls", [*finding.controls.values()]), ("inert words", finding.null_results))
    shares = {name: [r.explained[component] for r in some] for name, some in others if some}
    ends = {name: (f"{min(some):.2f}", f"{max(some):.2f}") for name, some in shares.items()}
    below = "\n".join(f"{name} {' to '.join(dict.fromkeys(e))} %" for name, e in ends.items())
    heading(ax, f"PC{component + 1}: {real.explained[component]:.2f} %", below)


FIGURES: Final = {
    "2_pca_cumulative_variance.png": cumulative_variance,
    "2_pca_component_distributions.png": component_distributions,
}
