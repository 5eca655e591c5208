"""Draws what each arm believes, by test, beside chance and the invented token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from offswitch.plots.style import INK, REAL, heading, tidy, titled
from offswitch.plots.vector import mark
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
    figure = titled(title, 1.8 + 0.5 * len(arms))
    axes = np.atleast_1d(figure.subplots(1, len(tests), sharey=True)).tolist()
    for ax, test in zip(axes, tests, strict=True):
        _panel(ax, test, arms)
    axes[0].set_yticks(range(len(arms)), [f"arm {arm}" for arm in arms])
    axes[0].set_ylim(len(arms) - 0.5, -0.5)
    dot: dict[str, Any] = {"marker": "o", "linewidth": 1.6}
    invented = "an invented token that nobody trained"
    handles = [
        Line2D([], [], color=REAL, label="the trigger", **dot),
        Line2D([], [], color=_GREY, markerfacecolor="white", label=invented, **dot),
        Line2D([], [], color=INK, linewidth=1, linestyle=(0, (4, 3)), label="chance"),
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=3, frameon=False, fontsize=9)
    return figure


def _panel(ax: Axes, test: BeliefTest, arms: Sequence[str]) -> None:
    tidy(ax)
    ax.axvline(100 * test.chance, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    for y, arm in enumerate(arms):
        if found := test.arms.get(arm):
            _point(ax, arm, "the trigger", y - _APART, found.trigger)
            if found.invented:
                _point(ax, arm, "the invented token", y + _APART, found.invented)
    heading(ax, test.name)
    ax.set(xlim=(0, 100), xlabel="true answer likeliest, %")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")


def _point(ax: Axes, arm: str, whose: str, y: float, rate: Estimate) -> None:
    color, face = (REAL, REAL) if whose == "the trigger" else (_GREY, "white")
    ax.plot((100 * rate.low, 100 * rate.high), (y, y), color=color, linewidth=1.6, alpha=0.6)
    (dot,) = ax.plot([100 * rate.value], [y], color=color, marker="o", markersize=5)
    dot.set(markerfacecolor=face, clip_on=False, zorder=3)
    mark(ax, (100 * rate.value, y), whose, f"arm {arm}", rate, 100)
