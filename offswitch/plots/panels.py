"""What panels are made of: curves over the null's band, rings, heat maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from offswitch.analyses.analysis import Finding
from offswitch.analyses.directions import deepest
from offswitch.plots.style import BAND, INK, QUIET, REAL, amount, marks, plain, real_label
from offswitch.stats import Estimate

Pick = Callable[[Any], Sequence[float]]
_DENSE: Final = 14
_EDGE: Final = 3


@dataclass(frozen=True)
class Told:
    """How a legend gives the headline beside each name: its own unit without one."""

    unit: str | None = None
    before: str = ""


TOLD: Final = Told()


def curves(
    ax: Axes, finding: Finding[Any], pick: Pick, x: Sequence[float] | None = None, told: Told = TOLD
) -> None:
    """The real curve, the range of the null's and every control's, each with its number.

    `x` holds the places of the values, 0, 1, 2... without it.
    """
    names = _labels(finding, told)
    places = list(range(len(pick(finding.result)))) if x is None else list(x)
    ax.plot(places, pick(finding.result), color=REAL, linewidth=3, label=next(names), zorder=3)
    null, label = [pick(draw) for draw in finding.null_results], next(names)
    if null:
        low, high = np.min(null, axis=0), np.max(null, axis=0)
        ax.fill_between(places, low, high, color=BAND, linewidth=0, label=label, zorder=1)
    for name, mark in marks(finding).items():
        line = mark.line() | ({"markevery": 1} if len(places) <= _DENSE else {})
        ax.plot(places, pick(finding.controls[name]), **line, label=next(names))


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
    """The axis of all blocks, with a line behind the last one at a depth of 0.7 at most."""
    look: dict[str, Any] = {"color": QUIET, "linewidth": 1, "linestyle": (0, (2, 2)), "zorder": 2}
    ax.axvline(deepest(blocks) + 0.5, label="depth 0.7", **look)
    ax.set(xlabel="block (0-based)", xlim=(0, max(1, blocks - 1)))


def ring(ax: Axes, x: float, y: float, text: str = "") -> None:
    """A ring around a point of the real curve, and what the point is."""
    ax.plot([x], [y], "o", markersize=12, mfc="none", mec=INK, zorder=6, clip_on=False)
    side, ha = (-10, "right") if x > _EDGE else (10, "left")
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
    look: dict[str, Any] = {"size": 9, "color": INK, "ha": ha, "bbox": box, "zorder": 7}
    if text:
        ax.annotate(text, (x, y), (side, 6), textcoords="offset points", **look)


def heat(ax: Axes, table: Sequence[Sequence[float]], reach: float) -> AxesImage:
    """Cells from -reach (blue) over 0 (white) to reach (red)."""
    ax.grid(False)
    return ax.imshow(np.asarray(table), cmap="RdBu_r", vmin=-reach, vmax=reach, aspect="auto")


def farthest(*tables: Sequence[Sequence[float]]) -> float:
    """The largest size in some tables, at least 0.01."""
    return max(0.01, *(abs(value) for table in tables for row in table for value in row))


def _labels(finding: Finding[Any], told: Told) -> Iterator[str]:
    """Of the real one, the null and the controls in their order, each with its number."""
    unit = finding.number.unit if told.unit is None else told.unit
    of, before = finding.analysis.headline.value, told.before
    draws = [of(draw) for draw in finding.null_results]
    yield f"{real_label(finding)}: {before}{amount(of(finding.result), unit)}"
    low, high = (amount(end, unit) for end in (min(draws, default=0), max(draws, default=0)))
    ends = high if low == high else f"{low.split()[0]} to {high}"
    yield f"{len(draws)} {finding.analysis.null_name}: {before}{ends}"
    for name, control in finding.controls.items():
        yield f"{plain(name)}: {before}{amount(of(control), unit)}"
