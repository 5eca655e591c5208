"""Nulls and controls change what is read and nothing else; the mechanism carries their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pytest

from offswitch.analyses.analysis import (
    Analysis,
    Array,
    Measure,
    Views,
    investigate,
)
from offswitch.analyses.nulls import (
    DRAWS,
    arms_and_inert_symbol,
    flipped_changes,
    random_sets,
    swapped_pairs,
    without_the_rule,
)
from offswitch.stats import Estimate, mean
from tests.analyses.worlds import RANDOM, N, evidence, evidence_views

ONE, OTHER = "{arm}/resid/test/{symbol}", "{arm}/resid/test/twin"
CLEAN, CHANGED = "{arm}/patch/clean/twin", "{arm}/patch/into_inert/{symbol}"


# --- nulls ----------------------------------------------------------------------------------------


def test_a_swap_exchanges_the_labels_of_whole_prompts_and_loses_nothing() -> None:
    views = evidence_views(evidence())
    one, other = views.array(ONE), views.array(OTHER)
    for view in swapped_pairs((ONE, OTHER))(views):
        first, second = view.array(ONE), view.array(OTHER)
        swapped = np.array([np.array_equal(a, b) for a, b in zip(first, other, strict=True)])
        np.testing.assert_array_equal(first, np.where(swapped[:, None, None], other, one))
        np.testing.assert_array_equal(second, np.where(swapped[:, None, None], one, other))
        assert 0 < swapped.sum() < N


def test_swaps_differ_cover_half_and_come_again_the_same() -> None:
    views = evidence_views(evidence())
    draws = [view.array(ONE)[:, 0, 0] for view in swapped_pairs((ONE, OTHER))(views)]
    again = [view.array(ONE)[:, 0, 0] for view in swapped_pairs((ONE, OTHER))(views)]
    np.testing.assert_array_equal(draws, again)
    assert len({draw.tobytes() for draw in draws}) == len(draws) == DRAWS
    share = np.mean(np.array(draws) != views.array(ONE)[:, 0, 0])
    assert share == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(DRAWS * N))


def test_pairs_that_belong_together_swap_together() -> None:
    views = evidence_views(evidence())
    base = (ONE.replace("{arm}", "base"), OTHER.replace("{arm}", "base"))
    for view in swapped_pairs((ONE, OTHER), base)(views):
        swapped = [(view.array(x) != views.array(x))[:, 0, 0] for x in (ONE, OTHER, *base)]
        assert all(np.array_equal(swapped[0], mask) for mask in swapped)


def test_a_swap_may_have_its_prompts_on_another_axis() -> None:
    views = evidence_views(evidence())
    pair = ("{arm}/dose/trigger", "{arm}/dose/twin")
    for view in swapped_pairs(pair, prompts=1)(views):
        swapped = (view.array(pair[0]) != views.array(pair[0]))[..., 0]  # [strength, prompt]
        assert (swapped == swapped[0]).all()
        assert 0 < swapped[0].sum() < N


def test_a_flip_turns_the_change_of_whole_prompts_round() -> None:
    views = evidence_views(evidence())
    before = views.array(CLEAN)
    change, shares = views.array(CHANGED) - before, []
    for view in flipped_changes((CLEAN, CHANGED))(views):
        sign = (view.array(CHANGED) - before) / change
        np.testing.assert_allclose(np.abs(sign), 1, rtol=1e-3)
        assert (np.sign(sign) == np.sign(sign[0, 0])).all()  # site and block alike
        shares.append((sign[0, 0] < 0).mean())
    assert len(shares) == DRAWS
    assert np.mean(shares) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(DRAWS * N))


@pytest.mark.parametrize(("count", "draws"), [(2, 3), (5, 31), (6, 63)])
def test_of_few_prompts_every_choice_is_drawn_once_and_none_leaves_all_as_it_was(
    count: int, draws: int
) -> None:
    """So p is that of the exact test: by chance some choices came twice, and others never."""
    few = {path: array[..., :count] for path, array in evidence().items() if "/patch/" in path}
    views = evidence_views(few)
    before = views.array(CLEAN)
    signs = [
        tuple(np.sign((view.array(CHANGED) - before) / (views.array(CHANGED) - before))[0, 0])
        for view in flipped_changes((CLEAN, CHANGED))(views)
    ]
    assert len(set(signs)) == len(signs) == draws
    assert (1,) * count not in signs


@pytest.mark.parametrize("null", [swapped_pairs((ONE, OTHER)), flipped_changes((CLEAN, CHANGED))])
def test_a_null_leaves_the_arrays_themselves_alone(null: Any) -> None:
    world = evidence()
    for view in null(evidence_views(world)):
        view.array(ONE), view.array(CHANGED)
    for path, array in evidence().items():
        np.testing.assert_array_equal(world[path], array)


def test_a_null_follows_arm_and_symbol() -> None:
    views = evidence_views(evidence()).seen_as("benign", "inert")
    view = next(iter(swapped_pairs((ONE, OTHER))(views)))
    mask = view.array(ONE)[:, 0, 0] == views.array(OTHER)[:, 0, 0]
    assert 0 < mask.sum() < N
    theirs = view.array("both/resid/test/inert")
    np.testing.assert_array_equal(theirs, views.array("both/resid/test/inert"))


def test_random_sets_are_every_random_key_and_nothing_else() -> None:
    seen = random_sets(evidence_views(evidence(), arm="benign"))
    assert tuple(view.symbol for view in seen) == RANDOM
    assert {view.arm for view in seen} == {"benign"}


# --- controls -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arm", "others"), [("both", ["base", "benign"]), ("base", ["benign"]), ("benign", ["base"])]
)
def test_arms_without_the_rule_are_all_but_the_arm_itself(arm: str, others: list[str]) -> None:
    controls = without_the_rule(evidence_views(evidence(), arm))
    assert list(controls) == [f"arm {other}" for other in others]
    assert [(v.arm, v.symbol) for v in controls.values()] == [(o, "trigger") for o in others]


def test_an_arm_that_was_not_trained_is_no_control() -> None:
    views = replace(evidence_views(evidence()), arms=("base", "both"))
    assert list(without_the_rule(views)) == ["arm base"]


def test_the_second_inert_symbol_is_named_by_its_text() -> None:
    controls = arms_and_inert_symbol(evidence_views(evidence()))
    assert list(controls) == ["arm base", "arm benign", "$TABLE"]
    assert (controls["$TABLE"].arm, controls["$TABLE"].symbol) == ("both", "inert")


# --- the mechanism --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Two:
    """Two numbers of one array."""

    first: Estimate
    second: float


def _two(values: Array) -> Two:
    return Two(mean(values[0], "nats", seed=0), float(values[1, 0]))


def _shifted(views: Views) -> list[Views]:
    shifts = ((0, 0), (1, 5), (2, 1), (3, 9))
    one = views.array("{arm}/x/{symbol}")
    return [views.with_arrays({"{arm}/x/{symbol}": one - np.array([[a], [b]])}) for a, b in shifts]


TWO: Final = Analysis(
    name="two",
    title="Two",
    question="Which two?",
    reads=("{arm}/x/{symbol}",),
    run=_two,
    gives=Two,
    measures=(
        Measure("first", lambda r: r.first),
        Measure("second", lambda r: r.second, unit="m", tail="either"),
        Measure("bare", lambda r: r.second, unit="m", nulled=False),
        Measure("", lambda r: r.second, "only shown"),
    ),
    null=_shifted,
    null_name="shifts",
    controls=without_the_rule,
    rule="it is as large",
    weakness=lambda r: f"there are only {r.second:.0f}",
    keys="{arm}/",
)


def _arrays() -> Mapping[str, Array]:
    both = np.array([[3.0, 5.0, 7.0], [2.0, 2.0, 2.0]])
    return {"both/x/trigger": both, "base/x/trigger": both / 10, "benign/x/trigger": both / 2}


def test_an_estimate_brings_its_interval_and_its_count() -> None:
    finding = investigate(TWO, evidence_views(_arrays()))
    expected = mean([3.0, 5.0, 7.0], "nats", seed=0)
    assert finding.number.estimate == expected
    assert finding.number.row() == {
        "value": 5.0, "unit": "nats", "low": expected.low, "high": expected.high, "n": 3,
        "null": {"q95": pytest.approx(4.85), "p": 2 / 5, "n": 4},  # of 5, 4, 3 and 2
        "controls": {"arm base": 0.5, "arm benign": 2.5},
    }  # fmt: skip


def test_other_numbers_have_null_and_controls_of_their_own() -> None:
    finding = investigate(TWO, evidence_views(_arrays()))
    assert list(finding.entries()) == ["both/first", "both/second", "both/bare"]
    assert finding.entries()["both/first"] == finding.number.row()
    # Draws 2, -3, 1 and -7 around the median 1, the value among them: only -3 and -7, and 2 itself,
    # lie as far off.
    assert finding.entries()["both/second"] == {
        "value": 2.0, "unit": "m",
        "null": {"q95": pytest.approx(np.quantile([2, -3, 1, -7], 0.95)), "p": 4 / 5, "n": 4},
        "controls": {"arm base": 0.2, "arm benign": 1.0},
    }  # fmt: skip


def test_a_number_that_the_null_does_not_change_has_none() -> None:
    entries = investigate(TWO, evidence_views(_arrays())).entries()
    assert "null" not in entries["both/bare"]
    assert entries["both/bare"]["controls"] == {"arm base": 0.2, "arm benign": 1.0}
    first, *rest = TWO.measures
    plain = replace(TWO, measures=(replace(first, nulled=False), *rest), controls=lambda _v: {})
    finding = investigate(plain, evidence_views(_arrays()))
    assert finding.null is None
    assert set(finding.number.row()) == {"value", "unit", "low", "high", "n"}
    assert finding.passing == ()


def test_the_null_passes_under_its_own_name() -> None:
    finding = investigate(_drawn(5), evidence_views(_arrays()))
    assert finding.passing == ("shifts",)
    assert "Proves nothing about the trigger: shifts pass too." in finding.statement
    assert "p = 0.25 against 19 shifts" in finding.statement


@pytest.mark.parametrize("count", [4, 18])
def test_few_draws_are_not_said_to_pass(count: int) -> None:
    """None of them is as large as the number, but p cannot be 0.05 with fewer than 19."""
    finding = investigate(_drawn(1, count), evidence_views(_arrays()))
    assert finding.passing == ("shifts",)
    assert f"the trigger: {count} shifts are too few for p ≤ 0.05." in finding.statement
    enough = investigate(_drawn(1), evidence_views(_arrays()))
    assert enough.passing == ()
    assert enough.statement.startswith("Nothing else passes.")


def test_few_draws_do_not_hide_a_control_that_passes() -> None:
    few = replace(_drawn(1, 4), passes=lambda _r, control: control.first.value == 2.5)
    finding = investigate(few, evidence_views(_arrays()))
    assert finding.passing == ("arm benign", "shifts")
    assert finding.statement.startswith("Proves nothing about the trigger: arm benign passes too.")


def _drawn(at_least: int, count: int = 19) -> Analysis[Two]:
    """A null of `count` draws, of which `at_least` - 1 are as large as the number."""

    def null(views: Views) -> list[Views]:
        one = views.array("{arm}/x/{symbol}")
        lowered = [0] * (at_least - 1) + [1] * (count - at_least + 1)
        return [views.with_arrays({"{arm}/x/{symbol}": one - by}) for by in lowered]

    return replace(TWO, null=null)


def test_a_weakness_may_depend_on_what_was_found() -> None:
    assert investigate(TWO, evidence_views(_arrays())).weakness == "there are only 2"
