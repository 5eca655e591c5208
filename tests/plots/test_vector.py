"""On the page a figure is text and lines, and says each of its values."""

from __future__ import annotations

import csv
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from offswitch.plots.panels import heat
from offswitch.plots.vector import mark, table, vector
from offswitch.stats import rate

SVG = "{http://www.w3.org/2000/svg}"


def _drawn() -> Figure:
    """Two panels: a curve with a level, a histogram and bars; and a heat map."""
    figure = Figure((6, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([0, 4, 8], [1.0, 2.5, -3.0], label=r"a & \$STOP <b>")
    left.axhline(0, label="zero")
    left.set_title("curves", loc="left")
    left.stairs([1, 3], [0, 2, 4], label="steps")
    heat(right, [[1, -2], [0.5, 4]], 4)
    right.set_yticks([0, 1], ["up", "down"])
    right.set_xticks([0, 1], ["5", "7"])
    right.set_xlabel("block")
    return figure


def _rows(figure: Figure) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table(figure))))


def test_the_table_holds_what_is_drawn() -> None:
    rows = [(r["panel"], r["series"], r["x"], float(r["value"])) for r in _rows(_drawn())]
    assert rows == [
        ("curves", "a & $STOP <b>", "0", 1.0),
        ("curves", "a & $STOP <b>", "4", 2.5),
        ("curves", "a & $STOP <b>", "8", -3.0),
        ("curves", "steps", "1", 1.0),
        ("curves", "steps", "3", 3.0),
        ("", "up", "block 5", 1.0),
        ("", "up", "block 7", -2.0),
        ("", "down", "block 5", 0.5),
        ("", "down", "block 7", 4.0),
    ]


def test_a_marked_point_stands_with_its_interval_and_is_read_once() -> None:
    figure = Figure()
    ax = figure.subplots()
    (line,) = ax.plot([3], [50.0], label="halts")
    share = rate([True, False])
    mark(ax, (3, 50.0), "halts", "block 3", share, 100, line)
    (row,) = _rows(figure)
    assert (row["series"], row["x"], row["value"], row["n"]) == ("halts", "block 3", "50", "2")
    assert float(row["low"]) == pytest.approx(100 * share.low, rel=1e-5)
    assert float(row["high"]) == pytest.approx(100 * share.high, rel=1e-5)
    assert "<title>halts, block 3: 50 [" in vector(figure, "one")


@pytest.mark.parametrize("flat", [True, False])
def test_bars_are_read_by_what_they_stand_at(flat: bool) -> None:
    figure = Figure()
    ax = figure.subplots()
    (ax.barh if flat else ax.bar)([0, 1], [2.0, -1.0])
    (ax.set_yticks if flat else ax.set_xticks)([0, 1], ["yes", "no"])
    assert [(r["x"], r["value"]) for r in _rows(figure)] == [("yes", "2"), ("no", "-1")]


def test_text_stays_text_and_names_are_of_one_figure() -> None:
    text, other = vector(_drawn(), "first"), vector(_drawn(), "second")
    root = ElementTree.fromstring(text)
    words = ["".join(one.itertext()) for one in root.iter(f"{SVG}text")]
    assert {"curves", "block", "up", "down"} <= set(words)
    assert "a &amp; $STOP &lt;b&gt;, 4: 2.5" in text
    ids = [set(re.findall(r' id="([^"]+)"', one)) for one in (text, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert len(re.findall(r' id="', text)) == len(ids[0])
    assert text == vector(_drawn(), "first")


def test_the_pointer_finds_a_value_where_it_is_drawn() -> None:
    figure = Figure((4, 4))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.plot([0, 10], [0, 10], label="a")
    ax.set(xlim=(0, 10), ylim=(0, 10))
    heat(inner := figure.add_axes((0, 0, 0.5, 0.5)), np.ones((2, 2)).tolist(), 1)
    assert inner
    root = ElementTree.fromstring(vector(figure, "one"))
    spots = [(float(c.get("cx", 0)), float(c.get("cy", 0))) for c in root.iter(f"{SVG}circle")]
    assert spots == [(0, 288), (288, 0)]
    cells = [(r.get("x"), r.get("y"), r.get("width")) for r in root.iter(f"{SVG}rect")
             if r.find(f"{SVG}title") is not None]  # fmt: skip
    assert cells == [("0.0", "144.0", "72.0"), ("72.0", "144.0", "72.0"),
                     ("0.0", "216.0", "72.0"), ("72.0", "216.0", "72.0")]  # fmt: skip
