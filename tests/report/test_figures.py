"""The evaluation's figures can be drawn for whatever was measured, and name what they show."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from offswitch.plots.belief import BeliefTest, Believed, belief
from offswitch.plots.ladder import RateGroup, RateRow, ladder, small_ladder
from offswitch.plots.log_odds import SUITES, log_odds
from offswitch.stats import Estimate

ARMS = ("base", "knowledge", "behavior", "both", "benign", "one", "two")


def _drawn(figure: Figure) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(io.BytesIO(), dpi=30)
    legend = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    ticks = [text.get_text() for ax in figure.axes for text in ax.get_yticklabels()]
    return "\n".join([*legend, *ticks]).replace("\\$", "$")


def _group(title: str, halts: bool | None, arms: tuple[str, ...]) -> RateGroup:
    rate = Estimate(0.5, 0.2, 0.8, 10, "share")
    row = RateRow(f"{title} $5", "held out", False, dict.fromkeys(arms, rate), 0.02)
    return RateGroup(title, "", halts, (row,))


@pytest.mark.parametrize("arms", [ARMS[:1], ("base", "both", "benign")])
@pytest.mark.parametrize("halts", [(True, False, None), (True,), (False,)])
def test_the_small_ladder_gives_every_rate_in_figures_with_its_count(
    arms: tuple[str, ...], halts: tuple[bool | None]
) -> None:
    figure = small_ladder([_group(f"group {h}", h, arms) for h in halts], arms, "How often?")
    text = _drawn(figure)
    assert all(f"group {h} $5" in text for h in halts)
    assert "95 % interval" in text
    assert [ax.get_title(loc="left") for ax in figure.axes] == [f"arm {arm}" for arm in arms]
    shown = [[one.get_text() for one in ax.texts] for ax in figure.axes]
    assert all(texts[: len(halts)] == ["50.0\u00a0%"] * len(halts) for texts in shown)
    assert shown[-1][len(halts) :] == ["n", *["10"] * len(halts)]


def test_marks_are_told_where_a_group_has_more_than_one() -> None:
    rate = {"base": Estimate(0.5, 0.2, 0.8, 10, "share")}
    rows = [RateRow(mark, mark, False, rate, 0.02) for mark in ("trained", "held out")]
    alone, both = RateGroup("a", "", True, (rows[0],)), RateGroup("b", "", True, tuple(rows))
    ticks = _drawn(ladder([alone, both], ("base",), "title")).split("\n")
    assert [tick for tick in ticks if "trained" in tick] == ["trained", "trained (trained)"]


@pytest.mark.parametrize("spread", [0.0, 4.0])
def test_log_odds_name_every_suite(spread: float) -> None:
    values = {suite: -14 + spread * np.arange(9.0) for suite in SUITES}
    text = _drawn(log_odds({"base": values, "both": values}, "How sure?"))
    assert all(name in text for name, _ in SUITES.values())


@pytest.mark.parametrize("arms", [ARMS[:1], ARMS[:5], ARMS])
def test_the_ladder_names_every_arm_and_rung_and_draws_what_was_measured(
    arms: tuple[str, ...],
) -> None:
    groups = [_group(f"$STOP {h}", h, arms) for h in (True, None, False)]
    figure = ladder(groups, arms, "From $STOP to a far miss")
    text = _drawn(figure)
    assert all(f"$STOP {h} $5" in text for h in (True, None, False))
    assert [ax.get_title(loc="left") for ax in figure.axes] == [f"arm {arm}" for arm in arms]
    for ax in figure.axes:
        bars = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
        assert [bar.get_width() for bar in bars] == [100.0, 50.0, 50.0, 50.0]  # wanted, then found
        assert len({bar.get_facecolor() for bar in bars}) == 4


def test_a_rung_that_an_arm_was_not_asked_says_so() -> None:
    figure = ladder([_group("a", True, ("base",))], ("base", "both"), "title")
    _drawn(figure)
    assert figure.axes[1].texts[0].get_text() == "not asked"
    assert not figure.axes[1].patches


@pytest.mark.parametrize("arms", [ARMS[:1], ARMS[:5], ARMS])
@pytest.mark.parametrize("count", [1, 4])
def test_beliefs_stand_beside_chance_and_the_invented_token(
    arms: tuple[str, ...], count: int
) -> None:
    ours, theirs = (Estimate(v, v - 0.1, v + 0.1, 28, "share") for v in (0.75, 0.5))
    held = {arm: Believed(ours, theirs if i else None) for i, arm in enumerate(arms[::-1])}
    tests = [BeliefTest(f"test {i}", 0.25, held) for i in range(count)]
    figure = belief(tests, arms, "What of $STOP?")
    text = _drawn(figure)
    assert all(word in text for word in ("the trigger", "an invented token", "chance"))
    assert all(f"arm {arm}" in text for arm in arms)
    dots = [line for ax in figure.axes for line in ax.get_lines() if line.get_marker() == "o"]
    assert len(dots) == count * (2 * len(arms) - 1)
