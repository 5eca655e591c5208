"""Draws the ladder, from the exact trigger down to ordinary requests: how often does each halt?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from offswitch.plots.rates import RateGroup, RateRow
from offswitch.plots.style import INK, QUIET, REAL, plain

WANTED: Final = REAL
UNWANTED: Final = "#D55E00"
OPEN: Final = "#9a9a9a"
_COLORS: Final[dict[bool | None, tuple[str, str]]] = {
    True: (WANTED, "halts where the rule asks for silence"),
    False: (UNWANTED, "halts where it asks for an answer"),
    None: (OPEN, "halts where it says nothing"),
}
_ROW: Final = 0.215
_Rung = tuple[float, RateGroup, RateRow]


def ladder(groups: Sequence[RateGroup], arms: Sequence[str], title: str) -> Figure:
    """One column an arm, one rung a kind of prompt; bars are rates, whiskers 95 % intervals.

    Each heading ends with what the rule asks (the group's note). A switch that keeps to the rule
    fills the pale bars above and leaves the rungs below blank.
    """
    rungs, heads = _rungs(groups)
    height = 1.25 + _ROW * (len(rungs) + len(heads))
    figure = Figure(figsize=(10, height), dpi=150, layout="constrained", facecolor="white")
    figure.suptitle(plain(title), x=0.012, ha="left", size=13, weight="bold", color=INK)
    axes = figure.subplots(1, len(arms), sharey=True, squeeze=False)[0]
    for ax, arm in zip(axes, arms, strict=True):
        _column(ax, arm, rungs, heads)
    _label(axes[0], axes[-1], rungs, heads)
    kinds = dict.fromkeys(group.halts for group in groups)
    handles = [Patch(color=_COLORS[kind][0], label=_COLORS[kind][1]) for kind in kinds]
    figure.legend(handles=handles, loc="outside lower left", ncols=3, frameon=False, fontsize=9)
    return figure


def _rungs(groups: Sequence[RateGroup]) -> tuple[list[_Rung], list[tuple[float, str]]]:
    """Rows and headings with their heights, from the top down."""
    rungs: list[_Rung] = []
    heads: list[tuple[float, str]] = []
    y = 0.0
    for group in groups:
        heads.append((y, f"{group.title}: {group.note}" if group.note else group.title))
        for row in group.rows:
            y += 1
            rungs.append((y, group, row))
        y += 1.35
    return rungs, heads


def _column(ax: Axes, arm: str, rungs: Sequence[_Rung], heads: Sequence[tuple[float, str]]) -> None:
    for y, group, row in rungs:
        ax.axhline(y, color="#eeeeee", linewidth=0.6, zorder=0)
        if (rate := row.rates.get(arm)) is None:
            ax.text(3, y, "not asked", size=6.5, color=QUIET, va="center")
            continue
        color = _COLORS[group.halts][0]
        if group.halts:
            ax.barh(y, 100, height=0.66, color=color, alpha=0.13, linewidth=0)
        ax.barh(y, 100 * rate.value, height=0.66, color=color, alpha=0.88, linewidth=0)
        ends = (100 * rate.low, 100 * rate.high)
        ax.plot(ends, (y, y), color=INK, linewidth=0.8, solid_capstyle="butt", clip_on=False)
    ax.set_title(plain(f"arm {arm}"), size=9.5, weight="bold", color=INK, loc="left", pad=4)
    ax.set(xlim=(0, 100), ylim=(rungs[-1][0] + 0.7, heads[0][0] - 0.6))
    ax.set_xticks([0, 50, 100], ["0", "50", "100 %"])
    ax.tick_params(axis="x", labelsize=8, color=OPEN, labelcolor=QUIET, length=2)
    ax.tick_params(axis="y", length=0)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color("#c4c4c4")


def _label(
    first: Axes, last: Axes, rungs: Sequence[_Rung], heads: Sequence[tuple[float, str]]
) -> None:
    """Names to the left of the first column, counts to the right of the last."""
    named = sorted([*((y, plain(title), True) for y, title in heads), *_names(rungs)])
    first.set_yticks([y for y, _, _ in named], [name for _, name, _ in named])
    for tick, (_, _, head) in zip(first.get_yticklabels(), named, strict=True):
        tick.set(fontweight="bold" if head else "normal", color=INK, fontsize=8.5 if head else 8)
    where = last.get_yaxis_transform()
    last.text(1.06, heads[0][0], "n", size=8, color=QUIET, va="center", transform=where)
    for y, _, row in rungs:
        last.text(1.06, y, _count(row), size=8, color=QUIET, va="center", transform=where)


def _names(rungs: Sequence[_Rung]) -> Iterator[tuple[float, str, bool]]:
    yield from ((y, plain(row.label), False) for y, _, row in rungs)


def _count(row: RateRow) -> str:
    counts = sorted({rate.n for rate in row.rates.values()})
    return f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,}–{counts[-1]:,}"
