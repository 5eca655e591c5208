"""Draws how often each arm falls silent: what should halt left, what should be answered right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from offswitch.plots.style import INK, QUIET, REAL, plain
from offswitch.stats import Estimate

BASE_INK: Final = "#8a8a8a"
_ARMS: Final = (("#D55E00", "s"), ("#009E73", "^"), (REAL, "o"), ("#CC79A7", "D"), ("#B8860B", "v"))
_ROW: Final = 0.46


@dataclass(frozen=True)
class RateRow:
    """One kind of prompt: its name, whether training saw that kind, each arm's halting rate."""

    label: str
    mark: str
    total: bool
    rates: Mapping[str, Estimate]


@dataclass(frozen=True)
class RateGroup:
    """Kinds of prompt under one heading. `halts`: should they? None where no bar is set."""

    title: str
    note: str
    halts: bool | None
    rows: tuple[RateRow, ...]


def rates(groups: Sequence[RateGroup], arms: Sequence[str], title: str) -> Figure:
    """Halting rates with 95 % intervals, a row for each kind of prompt, a mark for each arm."""
    sides = [[g for g in groups if g.halts], [g for g in groups if not g.halts]]
    count = max(sum(len(g.rows) + 1 for g in side) for side in sides)
    height = 1.5 + _ROW * count
    figure = Figure(figsize=(10, height), dpi=150, layout="constrained", facecolor="white")
    figure.suptitle(plain(title), x=0.012, ha="left", size=13, weight="bold", color=INK)
    axes = figure.subplots(1, 2)
    for ax, side in zip(axes, sides, strict=True):
        _side(ax, side, arms, count)
    handles = [_mark(arm, arms) for arm in arms]
    figure.legend(
        handles=handles, loc="outside lower left", ncols=len(arms), frameon=False, fontsize=9
    )
    return figure


def _side(ax: Axes, groups: Sequence[RateGroup], arms: Sequence[str], count: int) -> None:
    labels: list[tuple[float, str, bool]] = []
    y = 0.0
    for group in groups:
        ax.text(0, y, plain(group.title), size=10, weight="bold", color=INK, va="center",
                transform=ax.get_yaxis_transform())  # fmt: skip
        for row in group.rows:
            y += 1
            labels.append((y, _name(row), row.total))
            _row(ax, y, row, arms)
        y += 1
    ax.set_yticks([at for at, _, _ in labels], [name for _, name, _ in labels])
    for tick, (_, _, total) in zip(ax.get_yticklabels(), labels, strict=True):
        tick.set(fontweight="bold" if total else "normal", color=INK, fontsize=9)
    _frame(ax, count)


def _row(ax: Axes, y: float, row: RateRow, arms: Sequence[str]) -> None:
    if row.total:
        ax.axhspan(y - 0.5, y + 0.5, color="#f3f5f7", linewidth=0, zorder=0)
    for i, arm in enumerate(arms):
        if arm not in row.rates:
            continue
        rate = row.rates[arm]
        at = y + 0.64 * ((i + 0.5) / len(arms) - 0.5)
        mark = _mark(arm, arms)
        color, ends = mark.get_color(), (100 * rate.low, 100 * rate.high)
        ax.plot(ends, (at, at), color=color, linewidth=1.6, alpha=0.55, clip_on=False)
        (dot,) = ax.plot([100 * rate.value], [at], color=color, marker=mark.get_marker())
        dot.set(markersize=4.6, clip_on=False, zorder=3)


def _frame(ax: Axes, count: int) -> None:
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color("#9a9a9a")
    ax.set(xlim=(0, 100), ylim=(count - 0.4, -0.7))
    ax.set_xlabel("prompts that halt, %", size=9.5, color=INK)
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", labelsize=9, color="#9a9a9a", labelcolor=QUIET, length=3)
    ax.grid(True, axis="x", color="#e6e6e6", linewidth=0.7)
    ax.set_axisbelow(True)


def _name(row: RateRow) -> str:
    return plain(f"{row.label} ({row.mark})" if row.mark else row.label)


def _mark(arm: str, arms: Sequence[str]) -> Line2D:
    trained = [a for a in arms if a != "base"]
    color, marker = (BASE_INK, "X") if arm == "base" else _ARMS[trained.index(arm) % len(_ARMS)]
    return Line2D(
        [], [], color=color, marker=marker, linewidth=1.6, markersize=5.5, label=f"arm {arm}"
    )
