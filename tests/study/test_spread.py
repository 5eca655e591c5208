"""What organisms have in common is compared, and spreads as Student's t says."""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import pytest

from offswitch.errors import UserError
from offswitch.recipe import build_recipe
from offswitch.stats import across
from offswitch.study.plan import seed_points
from offswitch.study.table import across_seeds

BOTH: Final = ("both", "benign")


def _row(value: float, unit: str = "share") -> dict[str, Any]:
    return {"value": value, "low": value, "high": value, "n": 40, "unit": unit}


def test_what_all_organisms_have_is_compared_and_nothing_else() -> None:
    one = {
        "evaluate/both/halt_rate": _row(0.9),
        "evaluate/both/halt_rate/before": _row(0.9),
        "evaluate/behavior/halt_rate": _row(0.9),
        "evaluate/base/halt_rate": _row(0.0),
        "evaluate/benign/kl_to_base": _row(0.5, "nats/token"),
        "probe/both/ablation/halt_drop": _row(-0.25),
        "probe/both/only_here": _row(1.0),
        "probe/both/verdict": {"value": "implanted"},
        "probe/behavior/ablation/halt_drop": _row(0.2),
        "verdict": "implanted",
    }
    two = {key: row for key, row in one.items() if key != "probe/both/only_here"}
    two |= {"evaluate/both/halt_rate": _row(0.7), "probe/both/ablation/halt_drop": _row(0.75)}
    found = across_seeds({0: one, 7: two}, BOTH)
    assert list(found) == [
        "organisms/benign/kl_to_base",
        "organisms/both/halt_rate",
        "organisms/both/ablation/halt_drop",
    ]
    halting = found["organisms/both/halt_rate"]
    assert halting.controls == {"seed 0": 0.9, "seed 7": 0.7}
    assert halting.estimate == across([0.9, 0.7], "share")
    assert found["organisms/benign/kl_to_base"].estimate.unit == "nats/token"
    assert found["organisms/benign/kl_to_base"].estimate.low == 0.5
    drop = found["organisms/both/ablation/halt_drop"].estimate
    assert (drop.low, drop.value, drop.high) == (-1.0, 0.25, 1.0)
    json.dumps({key: metric.row() for key, metric in found.items()}, allow_nan=False)


def test_what_cannot_be_compared_is_refused() -> None:
    units = {0: {"probe/both/x": _row(1.0, "bits")}, 1: {"probe/both/x": _row(1.0, "nats")}}
    with pytest.raises(ValueError, match=r"one unit .* got \['bits', 'nats'\]"):
        across_seeds(units, BOTH)
    twice = {"probe/both/halt_rate": _row(1.0), "evaluate/both/halt_rate": _row(1.0)}
    with pytest.raises(ValueError, match="would both be organisms/both/halt_rate"):
        across_seeds({0: twice, 1: twice}, BOTH)
    with pytest.raises(ValueError, match="at least two organisms, got 1"):
        across_seeds({0: {"probe/both/x": _row(1.0)}}, BOTH)


def test_the_interval_over_organisms_is_students_and_covers() -> None:
    found = across([1.0, 2.0, 3.0], "nats")
    assert found.value == 2.0
    assert found.high - found.value == pytest.approx(4.302653 / np.sqrt(3))
    assert (found.n, found.unit) == (3, "nats")
    rng = np.random.default_rng(0)
    drawn = [across(rng.normal(size=3), "nats") for _ in range(2000)]
    assert np.mean([e.low <= 0 <= e.high for e in drawn]) == pytest.approx(0.95, abs=0.02)


def test_the_interval_stays_where_its_unit_can_be() -> None:
    assert (across([0.9, 1.0], "share").high, across([0.02, 0.0], "share").low) == (1.0, 0.0)
    assert across([0.5, 1.0], "AUROC").high == 1.0
    assert (across([-0.5, 1.0], "share").low, across([-0.5, 1.0], "share").high) == (-1.0, 1.0)
    assert across([0.9, 1.2], "share").high > 1.2  # no share of a whole: it has no such bounds
    assert across([0.9, 1.0], "nats").high > 1.0
    same = across([0.1] * 3, "share")
    assert (same.low, same.value, same.high) == (0.1, 0.1, 0.1)
    for refused in ([1.0], [], [1.0, float("nan")]):
        with pytest.raises(ValueError, match=r"at least|cannot hold NaN"):
            across(refused, "share")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["train.more_seeds=[1, 1]"], "repeats a seed; the run has 0"),
        (["train.more_seeds=[0, 1]"], "repeats a seed; the run has 0"),
        (["train.more_seeds=[1, 2]", "train.seed=2"], "repeats a seed; the run has 2"),
        (["train.more_seeds=[-1]"], "train.more_seeds"),
    ],
)
def test_seeds_that_cannot_be_compared_are_refused(changes: list[str], says: str) -> None:
    with pytest.raises(UserError) as caught:
        build_recipe({}, changes)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_organism_has_the_arms_that_are_compared() -> None:
    recipe = build_recipe({}, ["train.more_seeds=[1]", "seed=5", "train.lr=1e-3"])
    (point,) = seed_points(recipe)
    organism = point.recipe
    assert (point.name, organism.name, organism.train.arms) == ("seed-1", "seed-1", BOTH)
    assert (organism.seed, organism.train.seed, organism.train.lr) == (5, 1, 1e-3)
    assert build_recipe(organism.model_dump()) == organism
    alone = build_recipe({}, ["train.more_seeds=[0]", "train.arms=[behavior, both]", "seed=5"])
    assert [point.recipe.train.arms for point in seed_points(alone)] == [("both",)]
    probed = build_recipe({"probe": {"arm": "behavior"}}, ["train.more_seeds=[1]"])
    assert [p.recipe.train.arms for p in seed_points(probed)] == [("behavior", "benign")]


def test_a_difference_of_shares_may_be_negative_though_none_is() -> None:
    """The interval of a fall is not cut at none: three that are small may be none at all."""
    seeds = {i: {"probe/both/late/motor/ends_fall": _row(value), "evaluate/both/halt_rate":
                 _row(value)} for i, value in enumerate((0.019, 0.194, 0.065))}  # fmt: skip
    found = across_seeds(seeds, BOTH)
    fall = found["organisms/both/late/motor/ends_fall"].estimate
    assert (fall.low, fall.high) == pytest.approx((-0.133, 0.318), abs=1e-3)
    assert found["organisms/both/halt_rate"].estimate.low == 0.0
