"""Draws the ladder: halting rates from the exact trigger to ordinary requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from offswitch.metrics import percent
from offswitch.plots.style import INK, QUIET, REAL, plain, titled
from offswitch.plots.vector import mark
from offswitch.stats import Estimate

OPEN: Final = "#9a9a9a"
COLORS: Final[dict[bool | None, tuple[str, str]]] = {
    True: (REAL, "halts where the rule asks for silence"),
    False: ("#D55E00", "halts where it asks for an answer"),
    None: (OPEN, "halts where it says nothing"),
}


@dataclass(frozen=True)
class RateRow:
    """One kind of prompt: its name, whether training saw that kind, each arm's halting rate.

    `total`: a rung of its own, of which rows without it are parts. `most`: the share of false halts
    that the verdict allows there.
    """

    label: str
    mark: str
    total: bool
    rates: Mapping[str, Estimate]
    most: float


@dataclass(frozen=True)
class RateGroup:
    """Kinds of prompt under one heading. `halts`: should they? None where the rule is silent."""

    title: str
    note: str
    halts: bool | None
    rows: tuple[RateRow, ...]


_Rung = tuple[float, RateGroup, RateRow]


def ladder(groups: Sequence[RateGroup], arms: Sequence[str], title: str) -> Figure:
    """One column an arm, one rung a kind of prompt; bars are rates, whiskers 95 % intervals.

    Each heading ends with what the rule asks (the group's note). A switch that keeps to the rule
    fills the pale bars above and leaves the rungs below blank.
    """
    rungs: list[_Rung] = []
    names: list[tuple[float, str, str]] = []  # height, text, colour; headings have none
    y = 0.0
    for group in groups:
        names.append((y, f"{group.title}: {group.note}" if group.note else group.title, ""))
        mixed = len({row.mark for row in group.rows if row.mark}) > 1
        for row in group.rows:
            y += 1
            rungs.append((y, group, row))
            label = f"{row.label} ({row.mark})" if mixed and row.mark else row.label
            names.append((y, label, INK if row.total else QUIET))
        y += 1.35
    figure, axes = _columns(title, rungs, arms, 1.25 + 0.215 * len(names), 10.0)
    axes[0].set_ylim(rungs[-1][0] + 0.7, -0.6)
    axes[0].set_yticks([at for at, _, _ in names], [plain(name) for _, name, _ in names])
    for tick, (_, _, color) in zip(axes[0].get_yticklabels(), names, strict=True):
        weight = "normal" if color else "bold"
        tick.set(fontweight=weight, color=color or INK, fontsize=8 if color else 8.5)
    _counts(axes[-1], rungs, 6)
    _legend(figure, groups, 4)
    return figure


def small_ladder(groups: Sequence[RateGroup], arms: Sequence[str], title: str) -> Figure:
    """The ladder for a page 800 px wide: few rungs, with every rate in figures."""
    every = [(group, row) for group in groups for row in group.rows]
    rungs = [(float(y), group, row) for y, (group, row) in enumerate(every)]
    figure, axes = _columns(title, rungs, arms, 1.2 + 0.34 * len(rungs), 8.0)
    axes[0].set_ylim(len(rungs) - 0.4, -0.6)
    names = [plain(row.label) for _, _, row in rungs]
    axes[0].set_yticks(range(len(names)), names, fontsize=10, color=INK)
    for ax, arm in zip(axes, arms, strict=True):
        for y, _, row in rungs:
            if rate := row.rates.get(arm):
                _beside(ax, y, percent(rate.value), 4, INK)
    _counts(axes[-1], rungs, 52)
    _legend(figure, groups, 2)
    return figure


def _columns(
    title: str, rungs: Sequence[_Rung], arms: Sequence[str], height: float, width: float
) -> tuple[Figure, list[Axes]]:
    """A panel for each arm, with its bars."""
    figure = titled(title, height, width)
    axes = figure.subplots(1, len(arms), sharey=True, squeeze=False)[0].tolist()
    for ax, arm in zip(axes, arms, strict=True):
        for y, group, row in rungs:
            _bar(ax, y, group.halts, row.label, row.rates.get(arm))
        ax.set_title(plain(f"arm {arm}"), size=9.5, weight="bold", color=INK, loc="left", pad=4)
        ax.set_xlim(0, 100)
        ax.set_xticks([0, 50, 100], ["0", "50", "100 %"])
        ax.tick_params(axis="x", labelsize=8, color=OPEN, labelcolor=QUIET, length=2)
        ax.tick_params(axis="y", length=0)
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color("#c4c4c4")
    return figure, axes


def _bar(ax: Axes, y: float, halts: bool | None, label: str, rate: Estimate | None) -> None:
    """A rate as a bar with its interval, before a pale one where the rule asks for silence."""
    ax.axhline(y, color="#eeeeee", linewidth=0.6, zorder=0)
    if rate is None:
        ax.text(3, y, "not asked", size=6.5, color=QUIET, va="center")
        return
    color, _ = COLORS[halts]
    if halts:
        ax.barh(y, 100, height=0.66, color=color, alpha=0.13, linewidth=0)
    ax.barh(y, 100 * rate.value, height=0.66, color=color, alpha=0.88, linewidth=0)
    ends = (100 * rate.low, 100 * rate.high)
    ax.plot(ends, (y, y), color=INK, linewidth=1, solid_capstyle="butt", clip_on=False)
    mark(ax, (100 * rate.value, y), label, "halts, percent", rate, 100)


def _counts(ax: Axes, rungs: Sequence[_Rung], x: float) -> None:
    """How many prompts each rung has, to the right of the last column."""
    _beside(ax, rungs[0][0] - 0.8, "n", x, QUIET)
    for y, _, row in rungs:
        counts = sorted({rate.n for rate in row.rates.values()})
        text = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,}–{counts[-1]:,}"
        _beside(ax, y, text, x, QUIET)


def _beside(ax: Axes, y: float, text: str, x: float, color: str) -> None:
    """Text on a rung, `x` points to the right of the panel."""
    look: dict[str, Any] = {"size": 8.5, "color": color, "va": "center", "annotation_clip": False}
    ax.annotate(text, (1, y), (x, 0), ax.get_yaxis_transform(), "offset points", **look)


def _legend(figure: Figure, groups: Sequence[RateGroup], columns: int) -> None:
    kinds = [COLORS[kind] for kind in dict.fromkeys(group.halts for group in groups)]
    handles: list[Artist] = [Patch(color=color, label=label) for color, label in kinds]
    handles.append(Line2D([], [], color=INK, linewidth=1, label="95 % interval"))
    look: dict[str, Any] = {"frameon": False, "fontsize": 9}
    figure.legend(handles=handles, loc="outside lower left", ncols=columns, **look)
