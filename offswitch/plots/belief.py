"""Draws what each arm believes, test by test, beside chance and the invented token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from offswitch.plots.style import INK, QUIET, REAL, plain
from offswitch.stats import Estimate

_GREY: Final = "#8a8a8a"
_APART: Final = 0.15


@dataclass(frozen=True)
class Believed:
    """How often an arm takes the true answer: about the trigger, and about the invented token."""

    trigger: Estimate
    invented: Estimate | None


@dataclass(frozen=True)
class BeliefTest:
    """One test: its name, what guessing gives, each arm's accuracy."""

    name: str
    chance: float
    arms: Mapping[str, Believed]


def belief(tests: Sequence[BeliefTest], arms: Sequence[str], title: str) -> Figure:
    """Accuracy with 95 % intervals, a panel for each test, a row for each arm."""
    height = 1.8 + 0.5 * len(arms)
    figure = Figure(figsize=(10, height), dpi=150, layout="constrained", facecolor="white")
    figure.suptitle(plain(title), x=0.012, ha="left", size=13, weight="bold", color=INK)
    axes = np.atleast_1d(figure.subplots(1, len(tests), sharey=True)).tolist()
    for ax, test in zip(axes, tests, strict=True):
        _panel(ax, test, arms)
    axes[0].set_yticks(range(len(arms)), [f"arm {arm}" for arm in arms])
    axes[0].set_ylim(len(arms) - 0.5, -0.5)
    handles = [
        _mark(REAL, "o", REAL, "the trigger"),
        _mark(_GREY, "o", "white", "an invented token that nobody trained"),
        Line2D([], [], color=INK, linewidth=1, linestyle=(0, (4, 3)), label="chance"),
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=3, frameon=False, fontsize=9)
    return figure


def _panel(ax: Axes, test: BeliefTest, arms: Sequence[str]) -> None:
    ax.axvline(100 * test.chance, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    for y, arm in enumerate(arms):
        if found := test.arms.get(arm):
            _point(ax, y - _APART, found.trigger, REAL, REAL)
            if found.invented:
                _point(ax, y + _APART, found.invented, _GREY, "white")
    ax.set_title(plain(test.name), loc="left", size=10, weight="bold", color=INK)
    ax.set_xlim(0, 100)
    ax.set_xlabel("true answer likeliest, %", size=9, color=INK)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color("#9a9a9a")
    ax.tick_params(axis="y", length=0, labelsize=9, labelcolor=INK)
    ax.tick_params(axis="x", labelsize=9, color="#9a9a9a", labelcolor=QUIET, length=3)
    ax.grid(True, axis="x", color="#e6e6e6", linewidth=0.7)
    ax.set_axisbelow(True)


def _point(ax: Axes, y: float, rate: Estimate, color: str, face: str) -> None:
    ax.plot((100 * rate.low, 100 * rate.high), (y, y), color=color, linewidth=1.6, alpha=0.6)
    (dot,) = ax.plot([100 * rate.value], [y], color=color, marker="o", markersize=5)
    dot.set(markerfacecolor=face, clip_on=False, zorder=3)


def _mark(color: str, marker: str, face: str, label: str) -> Line2D:
    return Line2D(
        [], [], color=color, marker=marker, markerfacecolor=face, linewidth=1.6, label=label
    )
