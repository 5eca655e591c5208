"""Draws the seed's second analysis: cumulative variance, and the prompts on PC1 to PC3."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from offswitch.analyses.analysis import Finding
from offswitch.analyses.original.lowrank_pca import SHARES, LowrankPca
from offswitch.plots.style import (
    QUIET,
    REAL,
    SHADES,
    band,
    heading,
    legend,
    marks,
    plain,
    real_label,
    sheet,
    spread,
)

SHOWN = 10
BINS = 24
ROUNDING = 1e-6


def cumulative_variance(finding: Finding[LowrankPca]) -> Figure:
    """How many components carry 90, 95, 99 % of the variance, and what does each leave?"""
    figure, (whole, rest) = sheet(_title(finding), finding, (1, 2), 5.4)
    for share in SHARES:
        whole.axhline(share, color=QUIET, linewidth=0.8, linestyle=(0, (2, 3)))
    _curves(whole, finding, _cumulative)
    whole.set_yticks([0, 20, 40, 60, 80, *SHARES])
    whole.set(ylabel="cumulative share of the variance, %", ylim=(0, 103))
    heading(whole, "Explained", f"components needed: {_needed(finding.result)}")
    _curves(rest, finding, _left)
    rest.set(ylabel="share of the variance, % (log scale)", yscale="log")
    rest.yaxis.set_major_formatter(_decimal)
    rest.yaxis.set_minor_formatter(_decimal)
    rest.tick_params(which="minor", labelsize=8)
    heading(rest, "Left unexplained", _why(finding.result))
    legend(figure, whole, columns=3)
    return figure


def _curves(
    ax: Axes, finding: Finding[LowrankPca], pick: Callable[[LowrankPca], list[float]]
) -> None:
    real = finding.result
    ax.plot(pick(real), color=REAL, linewidth=3, marker="o", markersize=9, zorder=3,
            label=f"{real_label(finding)}: PC1 {real.pc1:.2f} %")  # fmt: skip
    band(ax, [pick(r) for r in finding.null_results], _null_label(finding))
    for name, mark in marks(finding).items():
        control = finding.controls[name].result
        line = mark.line() | {"markevery": 1}
        ax.plot(pick(control), **line, label=f"{plain(name)}: PC1 {control.pc1:.2f} %")
    count = min(SHOWN, len(real.explained), len(set(real.first_words)) + 1)
    ax.set_xlim(-0.4, count - 0.6)
    ax.set_xticks(range(count), [str(i + 1) for i in range(count)])
    ax.set_xlabel("components")


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
    controls = {name: finding.controls[name].result for name in finding.controls}
    every = [real, *controls.values()]
    reach = max(1e-9, *(abs(x) for r in every for x in r.projections[component]))
    edges = np.linspace(-1.05 * reach, 1.05 * reach, BINS + 1)
    words = list(dict.fromkeys(real.first_words))
    scores = np.asarray(real.projections[component])
    groups = [scores[[w == word for w in real.first_words]] for word in words]
    colors = [SHADES[i % len(SHADES)] for i in range(len(words))]
    ax.hist(
        groups, bins=edges.tolist(), stacked=True, color=colors, label=[f"“{w} …”" for w in words]
    )
    for name, mark in marks(finding).items():
        outline = {"color": mark.color, "linestyle": mark.dash, "linewidth": 1.5}
        scores = np.asarray(controls[name].projections[component])
        ax.hist(scores, bins=edges.tolist(), histtype="step", label=plain(name), **outline)
    ax.set_xlabel(f"projection on PC{component + 1}")
    ax.locator_params(axis="x", nbins=5)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    heading(
        ax, f"PC{component + 1}: {real.explained[component]:.2f} %", _compared(finding, component)
    )


def _compared(finding: Finding[LowrankPca], component: int) -> str:
    controls = spread((c.result.explained[component] for c in finding.controls.values()), ".2f")
    if not finding.null_results:
        return f"controls {controls} %"
    inert = spread((r.explained[component] for r in finding.null_results), ".2f")
    return f"controls {controls} %\ninert words {inert} %"


def _title(finding: Finding[LowrankPca]) -> str:
    if finding.result.flat:
        return f"All rows are equal: {finding.symbol} leaves no variance to analyse"
    pc1, top3 = finding.result.pc1, finding.result.top3
    return f"One component holds {pc1:.2f} % of the variance, three hold {top3:.2f} %"


def _needed(result: LowrankPca) -> str:
    parts = [f"{n} for {share:.0f} %" for n, share in zip(result.needed, SHARES, strict=True)]
    return ", ".join(parts)


def _null_label(finding: Finding[LowrankPca]) -> str:
    draws = finding.null_results
    return (
        f"range of {len(draws)} inert words: PC1 {spread((r.pc1 for r in draws), '.2f')} %"
        if draws
        else ""
    )


def _why(result: LowrankPca) -> str:
    distinct = len(set(result.first_words))
    return f"{distinct} distinct first words span at most {distinct - 1} components"


def _decimal(value: float, _position: float) -> str:
    return f"{value:g}"


def _left(result: LowrankPca) -> list[float]:
    """What the components leave over, in percent; nothing to draw where that is rounding error."""
    left = 100 - np.cumsum(result.explained[:SHOWN])
    return [float(x) if x > ROUNDING else float("nan") for x in left]


def _cumulative(result: LowrankPca) -> list[float]:
    return [float(x) for x in np.cumsum(result.explained[:SHOWN])]
