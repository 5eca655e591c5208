"""A figure for the page: SVG whose text is text, the value under the pointer, and a table.

What is read off a figure is what it draws: labelled curves, the cells of heat maps, and what its
module says of each mark with `mark` (bars, and points that have an interval).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary
from xml.sax.saxutils import escape

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from offswitch.metrics import compact
from offswitch.stats import Estimate

_POINTS: Final = 72  # of an inch: the unit of a figure as SVG
_NEAR: Final = 5.0  # so many points around a value the pointer is on it
_SAME: Final = 0.01  # a bar stands at a tick that is no farther away
_NAMES: Final = re.compile(r' id="(?:figure|axes|patch|line2d|text|matplotlib\.axis|xtick|ytick|'
                           r'legend|PathCollection|FillBetweenPolyCollection|PolyCollection|'
                           r'LineCollection|QuadMesh|StepPatch)_\d+"')  # fmt: skip
_COLUMNS: Final = ("panel", "series", "x", "value", "low", "high", "n")


@dataclass(frozen=True)
class Reading:
    """One value of a figure: what it is, and where it stands in data coordinates.

    `cell`: half the size of a heat map's. `unit`: what the estimate is multiplied with.
    """

    series: str
    x: str | float
    value: float
    at: tuple[float, float]
    estimate: Estimate | None = None
    unit: float = 1.0
    cell: tuple[float, float] | None = None

    @property
    def ends(self) -> tuple[float | None, float | None, int | None]:
        """The 95 % interval in the figure's unit, and the count."""
        e = self.estimate
        return (None, None, None) if e is None else (self.unit * e.low, self.unit * e.high, e.n)

    def told(self) -> str:
        """The value in words, as it stands beside the pointer."""
        low, high, n = self.ends
        between = f" [{compact(low)}, {compact(high)}]" if None not in (low, high) else ""  # type: ignore[arg-type]
        count = f", n = {n:,}" if n else ""
        at = self.x if isinstance(self.x, str) else compact(self.x)
        name = ", ".join(filter(None, (self.series, at)))
        return f"{name}: {compact(self.value)}{between}{count}"


_MARKED: Final[WeakKeyDictionary[Axes, list[Reading]]] = WeakKeyDictionary()
_OWN: Final[WeakKeyDictionary[Artist, bool]] = WeakKeyDictionary()


def mark(
    ax: Axes, at: tuple[float, float], series: str, x: str, estimate: Estimate,
    unit: float = 1.0, drawn: Artist | None = None,
) -> None:  # fmt: skip
    """Say what a point or a bar of a panel is; the curve `drawn` is then not read once more."""
    one = Reading(_plain(series), x, unit * estimate.value, at, estimate, unit)
    _MARKED.setdefault(ax, []).append(one)
    if drawn is not None:
        _OWN[drawn] = True


def vector(figure: Figure, name: str) -> str:
    """The figure as an SVG element; `name` keeps its inner names apart from other figures'."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = _NAMES.sub("", text[text.index("<svg") :])
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    spots = "".join(_spots(figure))
    over = f'<g fill="none" pointer-events="all">{spots}</g></svg>'
    return text.rstrip().removesuffix("</svg>") + over


def table(figure: Figure) -> str:
    """What the figure shows, as CSV: panel, series, x, value, and interval and n where known."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for ax in figure.axes:
        for one in _readings(ax):
            row: list[Any] = [_panel(ax), one.series, one.x, one.value, *one.ends]
            writer.writerow(["" if v is None else f"{v:.6g}" if isinstance(v, float) else v
                             for v in row])  # fmt: skip
    return buffer.getvalue()


def _readings(ax: Axes) -> Iterator[Reading]:
    yield from _MARKED.get(ax, [])
    for line in ax.get_lines():
        label = str(line.get_label())
        if label.startswith("_") or line in _OWN or line.get_transform() != ax.transData:
            continue
        for x, y in np.asarray(line.get_xydata(), float):
            yield Reading(_plain(label), float(x), float(y), (float(x), float(y)))
    yield from _steps(ax)
    for bars in () if ax in _MARKED else ax.containers:
        yield from _bars(ax, bars)
    for image in ax.images:
        cells = np.asarray(image.get_array())
        if cells.ndim != 2:
            continue
        rows, columns = (_names(axis, n) for axis, n in zip((ax.yaxis, ax.xaxis), cells.shape,
                                                            strict=True))  # fmt: skip
        for (row, column), value in np.ndenumerate(cells):
            yield Reading(rows[row], columns[column], float(value), (column, row), cell=(0.5, 0.5))


def _steps(ax: Axes) -> Iterator[Reading]:
    """The steps of labelled histograms, each at the middle of its bin."""
    for steps in ax.patches:
        label = str(steps.get_label())
        if isinstance(steps, StepPatch) and label and not label.startswith("_"):
            values, edges, _ = steps.get_data()
            for value, middle in zip(values, (edges[:-1] + edges[1:]) / 2, strict=True):
                yield Reading(_plain(label), float(middle), float(value), (middle, value))


def _bars(ax: Axes, bars: Any) -> Iterator[Reading]:
    """Bars by the ticks that they stand at, those of one container as one series."""
    if not isinstance(bars, BarContainer):
        return
    flat, label = bars.orientation == "horizontal", str(bars.get_label())
    series = "" if label.startswith("_") else _plain(label)
    axis = ax.yaxis if flat else ax.xaxis
    for bar in bars.patches:
        middle = bar.get_y() + bar.get_height() / 2 if flat else bar.get_x() + bar.get_width() / 2
        value = bar.get_width() if flat else bar.get_height()
        at = round(middle)
        name = _names(axis, 1, at)[0] if abs(middle - at) < _SAME else float(middle)
        yield Reading(series, name, float(value), (value, middle) if flat else (middle, value))


def _names(axis: Any, count: int, first: int = 0) -> list[str]:
    """What some rows or columns are called: by their ticks where they have one."""
    ticks = {round(at): tick.get_text() for at, tick in
             zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=False)}  # fmt: skip
    label = axis.get_label_text()
    named = [_plain(ticks.get(i) or str(i)) for i in range(first, first + count)]
    return [f"{label} {name}" if name.isdigit() else name for name in named]


def _spots(figure: Figure) -> Iterator[str]:
    """A transparent shape over every value, whose title the browser shows."""
    before, height = figure.dpi, figure.get_figheight() * _POINTS
    figure.set_dpi(_POINTS)
    try:
        for ax in figure.axes:
            values = list(_readings(ax))
            at = np.array([one.at for one in values]).reshape(-1, 2)
            half = np.array([one.cell or (0, 0) for one in values]).reshape(-1, 2)
            corners = [ax.transData.transform(at + side * half) for side in (-1, 1)]
            lows, highs = np.minimum(*corners), np.maximum(*corners)
            for one, (left, low), (right, high) in zip(values, lows, highs, strict=True):
                if not np.isfinite([left, low, right, high]).all():
                    continue
                title = f"<title>{escape(one.told())}</title>"
                if one.cell is None:
                    at_y = height - low
                    yield f'<circle cx="{left:.1f}" cy="{at_y:.1f}" r="{_NEAR}">{title}</circle>'
                    continue
                yield (
                    f'<rect x="{left:.1f}" y="{height - high:.1f}" width="{right - left:.1f}" '
                    f'height="{high - low:.1f}">{title}</rect>'
                )
    finally:
        figure.set_dpi(before)


def _panel(ax: Axes) -> str:
    return _plain(str(ax.get_title(loc="left")) or str(ax.get_title()))


def _plain(text: str) -> str:
    return text.replace(r"\$", "$")
