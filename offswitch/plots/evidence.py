"""What figures of the evidence share: curves over the null's band, rows of dots, heat maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from offswitch.plots.style import INK, QUIET, REAL, band, marks, plain, real_label
from offswitch.probe.analysis import Finding
from offswitch.probe.directions import deepest
from offswitch.stats import Estimate

Pick = Callable[[Any], Sequence[float]]
POINTS: Final = "points"
ARM: Final = "arm "
_DENSE: Final = 14


@dataclass(frozen=True)
class Effect:
    """A row of dots: its name, what it shows, and whether that depends on the direction."""

    label: str
    of: Callable[[Any], Estimate]
    by_direction: bool = True


def curves(
    ax: Axes, finding: Finding[Any], pick: Pick, x: Sequence[float] | None = None, unit: str = ""
) -> None:
    """The real curve, the range of the null's and every control's, each labelled by its headline.

    `x` holds the places of the values, 0, 1, 2... without it.
    """
    names = _labels(finding, unit)
    places = list(range(len(pick(finding.result)))) if x is None else list(x)
    ax.plot(places, pick(finding.result), color=REAL, linewidth=3, label=next(names), zorder=3)
    band(ax, [pick(draw) for draw in finding.null_results], next(names), places)
    for name, mark in marks(finding).items():
        line = mark.line() | ({"markevery": 1} if len(places) <= _DENSE else {})
        ax.plot(places, pick(finding.controls[name].result), **line, label=next(names))


def thin(ax: Axes, values: Sequence[float], label: str, x: Sequence[float] | None = None) -> None:
    """A second curve of the real result, for comparison: thin, and broken like no control's."""
    places = range(len(values)) if x is None else x
    ax.plot(places, values, color=REAL, linewidth=1.2, linestyle=(0, (4, 2)), label=plain(label))


def whiskers(ax: Axes, x: Sequence[float], estimates: Sequence[Estimate]) -> None:
    """95 % intervals on the points of the real curve, in percent."""
    values = [100 * e.value for e in estimates]
    ax.plot(x, values, "o", color=REAL, markersize=6, zorder=5)
    ends = [100 * e.low for e in estimates], [100 * e.high for e in estimates]
    ax.vlines(x, *ends, color=REAL, linewidth=1.5, zorder=5)


def depth(ax: Axes, blocks: int) -> None:
    """A line behind the last block below 80 % of the depth, and the axis that it stands on."""
    ax.axvline(deepest(blocks) + 0.5, color=QUIET, linewidth=0.9, linestyle=(0, (2, 2)), zorder=2)
    ax.annotate("80 % of the depth", (deepest(blocks) + 0.5, 0.985), (-3, 0), va="top", ha="right",
                xycoords=ax.get_xaxis_transform(), textcoords="offset points",
                rotation=90, size=8, color=QUIET)  # fmt: skip
    ax.set(xlabel="block (0-based)", xlim=(0, max(1, blocks - 1)))


def ring(ax: Axes, x: float, y: float, text: str = "") -> None:
    """A ring around a point of the real curve, and what the point is."""
    ax.plot([x], [y], "o", markersize=12, markerfacecolor="none", markeredgecolor=INK, zorder=6)
    if text:
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
        ax.annotate(text, (x, y), (-10, 6), textcoords="offset points", size=9, color=INK,
                    ha="right", bbox=box, zorder=7)  # fmt: skip


def dots(ax: Axes, finding: Finding[Any], effects: Sequence[Effect], unit: str = "") -> None:
    """Rows of the real estimate, each control's below it, then the null's draws as a strip."""
    styles = marks(finding)
    step = 0.8 / (len(styles) + 2)
    for row, effect in enumerate(effects):
        labels = iter([*_labels(finding, unit)] if row == 0 else ["_"] * (len(styles) + 2))
        at = row - 0.4 + step / 2
        _dot(ax, effect.of(finding.result), at, (REAL, "*", 13), next(labels))
        draws = [100 * effect.of(r).value for r in finding.null_results if effect.by_direction]
        place = [row + 0.4 - step / 2] * len(draws)
        ax.plot(draws, place, "|", color=QUIET, markersize=9, label=next(labels))
        for name, mark in styles.items():
            at, label = at + step, next(labels)
            if effect.by_direction or name.startswith(ARM):
                estimate = effect.of(finding.controls[name].result)
                _dot(ax, estimate, at, (mark.color, mark.marker, 6), label)
        if row:
            ax.axhline(row - 0.5, color="#c9c9c9", linewidth=0.6)
    ax.set_yticks(range(len(effects)), [plain(effect.label) for effect in effects])
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    ax.axvline(0, color=QUIET, linewidth=0.8)
    ax.set_ylim(len(effects) - 0.5, -0.5)


def heat(ax: Axes, table: Sequence[Sequence[float]], reach: float) -> AxesImage:
    """Cells from -reach (blue) over 0 (white) to reach (red)."""
    ax.grid(False)
    return ax.imshow(np.asarray(table), cmap="RdBu_r", vmin=-reach, vmax=reach, aspect="auto")


def farthest(*tables: Sequence[Sequence[float]]) -> float:
    """The largest size in some tables, a little more than 0 where all is 0."""
    return max(1e-9, *(abs(value) for table in tables for row in table for value in row))


def amount(value: float, unit: str) -> str:
    """A number as a legend has it; shares in percent."""
    if unit in ("share", POINTS):
        shown = f"{round(100 * value)} {'%' if unit == 'share' else POINTS}"
    else:
        shown = f"{round(value, 3) + 0.0:.3g} {unit}".strip()
    return shown.replace("-", "−")


def _dot(ax: Axes, e: Estimate, at: float, look: tuple[str, str, float], label: str) -> None:
    color, marker, size = look
    ax.plot([100 * e.low, 100 * e.high], [at, at], color=color, linewidth=1.5, alpha=0.6)
    ax.plot([100 * e.value], [at], marker, color=color, markersize=size, label=label, zorder=4)


def _labels(finding: Finding[Any], unit: str) -> Sequence[str] | Any:
    """Of the real one, the null and the controls in their order, each with its headline."""
    unit = unit or finding.unit
    yield f"{real_label(finding)}: {amount(finding.value, unit)}"
    draws = finding.null_values
    ends = sorted({amount(min(draws), ""), amount(max(draws), "")}) if draws else []
    yield f"range of {len(draws)} {finding.null_name}"
    for name, control in finding.controls.items():
        yield f"{plain(name)}: {amount(control.value, unit)}"
