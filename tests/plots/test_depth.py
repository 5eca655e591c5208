"""The causal tests over the depth: every curve is its block's number, every comparison is named."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from offswitch.analyses.causal import Causal
from offswitch.analyses.directions import early
from offswitch.plots.depth import depth
from offswitch.stats import Estimate
from tests.analyses.effects import BLOCKS, Mechanism, N, causal_of, from_


@cache
def _found() -> Causal:
    """Curves that all differ, and null directions that do something."""
    return causal_of(
        Mechanism(
            fall=from_(4, 0.75), after=from_(3, 0.9), whole=from_(2), whole_after=from_(1, 0.95),
            rise=from_(5, 0.8), base=0.25, null=0.3, draws=20,
        )
    )  # fmt: skip


def _drawn(figure: Figure) -> list[Axes]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.draw_without_rendering()
    return figure.axes


def _lines(axes: Axes) -> dict[str, Line2D]:
    """The curves of a panel by what its legend calls them."""
    assert axes.get_legend() is not None
    return {
        str(line.get_label()): line for line in axes.get_lines() if str(line.get_label())[0] != "_"
    }


def _values(line: Line2D) -> list[float]:
    assert np.asarray(line.get_xdata()).tolist() == list(range(BLOCKS))
    found: list[float] = np.asarray(line.get_ydata()).tolist()
    return found


def test_curves_are_the_numbers_of_their_blocks() -> None:
    need, enough, nats = _drawn(depth(_found(), "represented"))
    lines, curve = _lines(need), _found().curve
    for label, name in {
        "one direction (mean), last position": "fall", "one direction, after the symbol": "after",
        "whole residual, last position": "whole", "whole residual, after the symbol": "whole_after",
        "whole residual, at the symbol": "whole_symbol",
    }.items():  # fmt: skip
        estimates: list[Estimate] = [getattr(point, name) for point in curve]
        assert _values(lines.pop(label)) == [100 * e.value for e in estimates], label
    assert not lines  # one direction at the symbol was not tried, and is not drawn
    (line,) = _lines(enough).values()
    assert line.get_label() == "added to plain prompts, scale 1"
    assert _values(line) == [100 * p.rise.value for p in curve if p.rise]
    ours, theirs = _lines(nats).values()
    assert (ours.get_label(), theirs.get_label()) == ("arm both", "untrained model")
    assert _values(ours) == [p.nats.value for p in curve if p.nats]
    assert _values(theirs) == [p.elsewhere["base"].value for p in curve]


def test_the_chosen_direction_has_a_band_as_wide_as_its_interval() -> None:
    need, *_ = _drawn(depth(_found(), "represented"))
    (band,) = need.collections
    (path,) = band.get_paths()
    falls = [point.fall for point in _found().curve if point.fall]
    heights = np.asarray(path.vertices)[:, 1]
    assert heights.min() == pytest.approx(min(100 * e.low for e in falls))
    assert heights.max() == pytest.approx(max(100 * e.high for e in falls))


def test_null_directions_stand_where_they_were_tried() -> None:
    *_, nats = _drawn(depth(_found(), "represented"))
    _, *bars = (one for one in nats.patches if isinstance(one, Rectangle))  # shaded first
    tops = [(round(bar.get_x() + 0.35), bar.get_height()) for bar in bars]
    assert len(tops) == 6  # three kinds at the pair's first block and at the late one
    assert tops == [
        (place.point.block, null.q95)
        for place in _found().places
        for null in place.rise_null.values()
    ]
    legend = nats.get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels.count("null directions, 95 % point") == 1


def test_null_directions_of_a_smaller_scale_do_not_stand_beside_curves_at_full_length() -> None:
    (first, second), late = _found().pair, _found().late
    found = replace(_found(), pair=(replace(first, scale=0.5), second))
    *_, nats = _drawn(depth(found, "represented"))
    _, *bars = (one for one in nats.patches if isinstance(one, Rectangle))
    assert {round(bar.get_x() + 0.35) for bar in bars} == {late[0].point.block}
    (told,) = (text.get_text() for text in nats.texts)
    assert told.endswith("; null directions of scale 0.5 at block 4 are not drawn")


@pytest.mark.parametrize("blocks", [5, 12, 30])
def test_what_is_shaded_is_deeper_than_seven_tenths(blocks: int) -> None:
    point = _found().curve[0]
    curve = tuple(replace(point, block=b, depth=(b + 1) / blocks) for b in range(blocks))
    found = replace(_found(), blocks=blocks, curve=curve, pair=(), late=())
    for axes in _drawn(depth(found, "not shown")):
        shade, *_ = (one for one in axes.patches if isinstance(one, Rectangle))
        assert shade.get_x() == pytest.approx(early(blocks) - 0.5)
        assert shade.get_x() + shade.get_width() == pytest.approx(blocks - 0.5)


def test_other_arms_and_what_was_not_tried_are_told() -> None:
    vectors = {"base": Estimate(1, 0, 2, N, "nats"), "benign": Estimate(3, 2, 4, N, "nats")}
    curve = tuple(replace(p, fall=None, elsewhere=vectors) for p in _found().curve)
    need, _, nats = _drawn(depth(replace(_found(), curve=curve), "motor plan"))
    assert [*_lines(nats)] == ["arm both", "untrained model", "arm benign"]
    assert not any("last position" in label and "one" in label for label in _lines(need))
    assert [text.get_text() for text in need.texts] == ["not tried"]


def test_the_title_has_arm_and_verdict_and_panels_their_counts() -> None:
    figure = depth(_found(), "represented")
    need, enough, _ = _drawn(figure)
    assert figure.get_suptitle() == "Arm both: represented. One direction, block by block"
    assert [text.get_text() for text in need.texts] == [f"n = {N} test prompts"]
    assert [text.get_text() for text in enough.texts] == [f"n = {N} plain prompts"]
