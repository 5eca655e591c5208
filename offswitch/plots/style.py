"""One look for every figure: heading, colour-blind-safe marks, readable tokens.

Figures are 1500 px wide and made to be read at 1000. Nothing here touches matplotlib's global
state.
"""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from offswitch.analyses.analysis import Finding
from offswitch.metrics import SHARE

# Okabe & Ito (2008): distinct in every common form of colour blindness.
REAL: Final = "#0072B2"
INK: Final = "#222222"
QUIET: Final = "#6b6b6b"
BAND: Final = "#d9d9d9"
ALARM: Final = "#A33B00"
SHADES: Final = ("#08306b", "#2b7bba", "#7fb8da", "#c3daee", "#5f6b7a", "#a9b1bb", "#dcdfe3")
_CONTROLS: Final[tuple[tuple[str, Any, str], ...]] = (
    ("#D55E00", (0, (5, 2)), "o"),
    ("#009E73", (0, (1, 1.4)), "s"),
    ("#CC79A7", (0, (7, 2, 1.5, 2)), "^"),
    ("#B8860B", (0, (3, 1, 1, 1, 1, 1)), "D"),
    ("#56B4E9", (0, (9, 3)), "v"),
    ("#000000", (0, (2, 3)), "P"),
)
_WIDTH: Final = 10.0
_DPI: Final = 150
_LEGEND: Final = 190  # characters of 9 points in a legend's row, keys and gaps included


@dataclass(frozen=True)
class Mark:
    """How one control is drawn, in every panel of a figure."""

    color: str
    dash: Any
    marker: str
    first: int

    def line(self) -> dict[str, Any]:
        """A thin broken line whose markers do not fall on those of other controls."""
        return {
            "color": self.color,
            "linestyle": self.dash,
            "linewidth": 1.6,
            "marker": self.marker,
            "markersize": 5,
            "markeredgecolor": "white",
            "markeredgewidth": 0.5,
            "markevery": (self.first, len(_CONTROLS)),
            "zorder": 4,
        }


def marks(finding: Finding[Any]) -> dict[str, Mark]:
    """A mark of its own for every control, in the order in which they stand in the finding."""
    chosen = [(i % len(_CONTROLS), name) for i, name in enumerate(finding.controls)]
    return {name: Mark(*_CONTROLS[i], first=i) for i, name in chosen}


def titled(title: str, height: float, width: float = _WIDTH) -> Figure:
    """An empty figure with a title, sizes in inches."""
    figure = Figure((width, height), dpi=_DPI, layout="constrained", facecolor="white")
    figure.suptitle(plain(title), x=0.012, ha="left", size=13, weight="bold", color=INK)
    return figure


def sheet(
    title: str, finding: Finding[Any], grid: tuple[int, int], height: float
) -> tuple[Figure, Sequence[Axes]]:
    """A figure headed by what is seen and what the controls say; `grid` = (rows, columns)."""
    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained", facecolor="white")
    head, foot = textwrap.wrap(drawable(title), 92), textwrap.wrap(drawable(finding.statement), 140)
    top = _header(figure, head, foot, finding)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(rect=(0.008, 0.008, 0.984, 1 - top / height), wspace=0.04, hspace=0.05)  # type: ignore[call-arg]
    axes = np.atleast_1d(figure.subplots(*grid)).ravel().tolist()
    for ax in axes:
        tidy(ax)
    return figure, axes


def tidy(axes: Axes) -> None:
    """A panel with two spines, a pale grid and small labels."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#9a9a9a")
    axes.tick_params(labelsize=9, color="#9a9a9a", labelcolor=INK, length=3)
    axes.grid(True, color="#ececec", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.xaxis.label.set(size=9.5, color=INK)
    axes.yaxis.label.set(size=9.5, color=INK)


def legend(figure: Figure, axes: Axes, columns: int = 4) -> None:
    """The legend of one panel, below all panels."""
    handles, labels = axes.get_legend_handles_labels()
    longest = max(map(len, labels), default=0)
    columns = max(1, min(columns, _LEGEND // (longest + 7)))
    figure.legend(
        handles,
        labels,
        loc="outside lower left",
        ncols=columns,
        frameon=False,
        fontsize=9,
        handlelength=3.2,
        columnspacing=1.8,
    )


def heading(axes: Axes, text: str, below: str = "") -> None:
    """A panel's own heading, left-aligned, with a smaller line below it."""
    pad = 6 + (13 * (1 + below.count("\n")) if below else 0)
    axes.set_title(plain(text), loc="left", size=10, weight="bold", color=INK, pad=pad)
    if below:
        axes.annotate(
            plain(below), (0, 1), (0, 5), "axes fraction", "offset points", size=8.5, color=QUIET
        )


def real_label(finding: Finding[Any]) -> str:
    """What the real curve is called: symbol and arm."""
    return plain(", ".join(part for part in (finding.symbol, f"arm {finding.arm}") if part))


def plain(text: str) -> str:
    """Drawable text in which a dollar sign is a dollar sign and not the start of a formula."""
    return drawable(text).replace("$", r"\$")


def drawable(text: str) -> str:
    """Text in which what the font does not have stands as its code point."""
    return "".join(c if c == "\n" or c in _glyphs() else _code(c) for c in text)


def doubling(ax: Axes, x: Sequence[float]) -> None:
    """A horizontal axis on which each doubling is one step, with ticks at values apart enough."""
    ax.set_xscale("log", base=2)
    ax.set_xlim(min(x) / 1.2, max(x) * 1.2)
    ticks: list[float] = []
    for value in sorted(set(x), reverse=True):
        if not ticks or ticks[-1] >= 1.3 * value:
            ticks.append(value)
    ax.set_xticks(ticks, [f"{value:g}" for value in ticks])
    ax.minorticks_off()


def spanning(axes: Sequence[Axes]) -> Axes:
    """The first of some panels of a grid, taking the place of them all."""
    first, last = axes[0].get_subplotspec(), axes[-1].get_subplotspec()
    if first is None or last is None:
        raise ValueError("these panels stand in no grid")
    grid = first.get_gridspec()
    axes[0].set_subplotspec(
        grid[first.rowspan.start : last.rowspan.stop, first.colspan.start : last.colspan.stop]
    )
    for other in axes[1:]:
        other.remove()
    return axes[0]


def amount(value: float, unit: str) -> str:
    """A number as a legend has it; shares in percent."""
    if unit == SHARE:
        return f"{round(100 * value)} %".replace("-", "−")
    shown = "<0.001" if 0 < value < 0.0005 else f"{round(value, 3) + 0.0:.3g}"
    return f"{shown} {unit}".strip().replace("-", "−")


def token_text(token: str) -> str:
    """A token for human eyes: bytes decoded, a space as ␣, what cannot be drawn as its code."""
    token = token.replace("▁", " ")
    table = _byte_of()
    if all(c in table for c in token):
        token = bytes(table[c] for c in token).decode("utf-8", errors="backslashreplace")
    signs, drawn = {" ": "␣", "\n": "⏎", "\t": "⇥"}, _glyphs()
    named = [(c, signs.get(c, c)) for c in token]
    shown = "".join(n if n.isprintable() and n in drawn else _code(c) for c, n in named)
    return plain(shown if len(shown) <= 18 else shown[:17] + "…")


@cache
def _glyphs() -> frozenset[str]:
    """What DejaVu Sans can draw and a reader can see: no joiners or marks of direction."""
    font = get_font(findfont(FontProperties(family="DejaVu Sans")))
    drawn = map(chr, font.get_charmap())
    return frozenset(c for c in drawn if unicodedata.category(c) not in ("Cc", "Cf"))


def _code(char: str) -> str:
    """A character's code point."""
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


@cache
def _byte_of() -> dict[str, int]:
    """Byte-level BPE (GPT-2) writes printable bytes as themselves, the others from U+0100 on."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [b for b in range(256) if b not in own]
    return {chr(b): b for b in own} | {chr(256 + i): b for i, b in enumerate(other)}


def _header(figure: Figure, head: list[str], foot: list[str], finding: Finding[Any]) -> float:
    """Writes title and control statement; returns the height that they take, in inches."""
    height = figure.get_figheight()
    title, below = plain("\n".join(head)), plain("\n".join(foot))
    color = ALARM if finding.passing else QUIET
    across, under = 0.14 / _WIDTH, 0.17 + 0.27 * len(head)
    figure.text(across, 1 - 0.13 / height, title, size=13, weight="bold", color=INK, va="top")
    figure.text(across, 1 - under / height, below, size=9, color=color, va="top", linespacing=1.3)
    return under + 0.09 + 0.19 * len(foot)
