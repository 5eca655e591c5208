"""Draws the switch card: what a paper would cite of a switch, on one small page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from offswitch.plots.style import INK, QUIET, plain, titled

_TOP, _LINE = 0.62, 0.3  # inches: the heading, a line


@dataclass(frozen=True)
class CardLine:
    """What was measured, the number with its interval and n, and what it stands beside."""

    what: str
    number: str
    beside: str = ""


def card(title: str, lines: Sequence[CardLine], foot: str) -> Figure:
    """Three columns: what, the number, its controls; the last line says of what it is."""
    height = _TOP + _LINE * (len(lines) + 1.2)
    figure = titled(title, height)
    for i, line in enumerate(lines):
        y = 1 - (_TOP + _LINE * (i + 0.5)) / height
        for x, text, color in ((0.012, line.what, INK), (0.4, line.number, INK),
                               (0.72, line.beside, QUIET)):  # fmt: skip
            weight = "bold" if x == 0.4 else "normal"
            figure.text(x, y, plain(text), size=9.5, color=color, weight=weight, va="center")
    figure.text(0.012, 0.3 * _LINE / height, plain(foot), size=8, color=QUIET, va="bottom")
    return figure
