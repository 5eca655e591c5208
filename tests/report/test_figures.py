"""The evaluation's figures can be drawn for whatever was measured, and name what they show."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure

from offswitch.plots.belief import BeliefTest, Believed, belief
from offswitch.plots.log_odds import SUITES, log_odds
from offswitch.plots.rates import RateGroup, RateRow, rates
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
    row = RateRow(f"{title} $5", "held out", False, dict.fromkeys(arms, rate))
    return RateGroup(title, "", halts, (row,))


@pytest.mark.parametrize("arms", [ARMS[:1], ARMS[:4], ARMS])
@pytest.mark.parametrize("halts", [(True, False, None), (True,), (False,)])
def test_rates_name_every_arm_and_row(arms: tuple[str, ...], halts: tuple[bool | None]) -> None:
    groups = [_group(f"group {h}", h, arms) for h in halts]
    text = _drawn(rates(groups, arms, "How often? $STOP or $GO"))
    assert all(f"arm {arm}" in text for arm in arms)
    assert all(f"group {h} $5 (held out)" in text for h in halts)


def test_an_arm_without_a_rate_leaves_a_gap() -> None:
    _drawn(rates([_group("a", True, ("base",))], ("base", "both"), "title"))


@pytest.mark.parametrize("spread", [0.0, 4.0])
def test_log_odds_name_every_suite(spread: float) -> None:
    values = {suite: -14 + spread * np.arange(9.0) for suite in SUITES}
    text = _drawn(log_odds({"base": values, "both": values}, "How sure?"))
    assert all(name in text for name, _ in SUITES.values())


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
