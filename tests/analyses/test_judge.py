"""Verdicts on a whole run folder: p-values are adjusted over all its arms, bars are the rule's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from offswitch.analyses.causal import Causal, Point
from offswitch.analyses.claims import p_values
from offswitch.analyses.judge import causal_of as stored
from offswitch.analyses.judge import judge
from offswitch.analyses.null_directions import KINDS, Kind
from offswitch.analyses.store import save_causal
from offswitch.analyses.verdict import Verdict, verdict
from offswitch.folder import EVALUATE, PROBE, TRAIN
from offswitch.metrics import Metric, exact, write_metrics
from offswitch.recipe import Recipe, dump_recipe
from offswitch.stats import Estimate, Null
from tests.analyses.effects import ARM, Mechanism, causal_of

RATES: Final = {
    "halt_rate": 1.0, "false_halt_rate/near_miss": 0.0,
    "false_halt_rate/near_miss/case": 0.0, "false_halt_rate/ordinary": 0.0, "repeats": 0.0,
}  # fmt: skip


@cache
def _early() -> Causal:
    """A state in blocks 4 and 5 of 10, and no late choice that could stand in for it."""
    return replace(causal_of(Mechanism()), late=())


def _around(found: Estimate, value: float) -> Estimate:
    return replace(found, value=value, low=value - 0.05, high=value + 0.05)


def _numbers(*arms: str) -> dict[str, Metric]:
    """Rates of arms that halt when they should."""
    return {
        f"evaluate/{arm}/{name}": Metric(value, "share", value, value, 100)
        for arm in arms
        for name, value in RATES.items()
    }


def _write(root: Path, arms: Mapping[str, Causal | None]) -> Path:
    """A run folder in which every arm halts; of some it was tested why."""
    (root / EVALUATE).mkdir(parents=True)
    write_metrics(root / EVALUATE / "metrics.json", _numbers(*arms))
    for arm, found in arms.items():
        (root / PROBE / arm).mkdir(parents=True)
        (root / PROBE / arm / "findings.json").write_text("{}", encoding="utf-8")
        if found is not None:
            save_causal(root / PROBE / arm, replace(found, arm=arm))
    return root


def _with_null(kind: Kind, null: Null) -> Causal:
    """The early state, with another null for the fall at its first block."""
    first, second = _early().pair
    changed = replace(first, fall_null={**first.fall_null, kind: null})
    return replace(_early(), pair=(changed, second))


def _at_second(**changes: Any) -> Verdict:
    """The verdict when something is another at the pair's second block alone."""
    first, second = _early().pair
    point: Point = replace(second.point, **changes)
    found = replace(_early(), pair=(first, replace(second, point=point)))
    return verdict(ARM, _numbers(ARM), found, {})


def test_every_probed_arm_is_judged_and_one_without_causal_tests_is_not_measured(
    tmp_path: Path,
) -> None:
    root = _write(tmp_path, {"both": _early(), "benign": None})
    assert stored(root) == {"benign": None, "both": _early()}
    assert {arm: found.kind for arm, found in judge(root).items()} == {
        "benign": "not measured", "both": "represented",
    }  # fmt: skip
    assert judge(tmp_path / "elsewhere") == {}


def test_p_values_are_adjusted_over_all_arms_of_a_run(tmp_path: Path) -> None:
    """0.02 passes alone; beside two more arms that fare as badly it does not."""
    weak = _with_null("covariance", Null(q95=1.0, p=0.02, n=200))
    assert judge(_write(tmp_path / "one", {"both": weak}))["both"].kind == "represented"
    arms: dict[str, Causal | None] = dict.fromkeys(("behavior", "both", "other"), weak)
    found = judge(_write(tmp_path / "three", arms))
    assert {arm: one.kind for arm, one in found.items()} == dict.fromkeys(arms, "not shown")
    assert any("p = 0.02, adjusted 0.06" in line for line in found["both"].because)


def test_the_kind_of_null_with_the_largest_p_is_adjusted_and_decides() -> None:
    for kind in KINDS:
        beaten = _with_null(kind, Null(q95=1.0, p=0.2, n=200))
        assert max(p_values(beaten).values()) == 0.2
        assert verdict(ARM, _numbers(ARM), beaten, {}).kind == "not shown"


def test_the_kind_of_null_that_reaches_farthest_decides_too() -> None:
    for kind in KINDS:
        farther = _with_null(kind, Null(q95=11.0, p=0.01, n=200))
        assert verdict(ARM, _numbers(ARM), farther, {}).kind == "not shown"


@pytest.mark.parametrize("effect", ["fall", "rise"])
def test_both_blocks_of_the_pair_must_pass(effect: str) -> None:
    little = _around(getattr(_early().pair[1].point, effect), 0.4)
    assert _at_second().kind == "represented"
    assert _at_second(**{effect: little}).kind == "not shown"


def test_the_first_block_of_the_pair_must_be_more_than_motor() -> None:
    first, second = _early().pair
    for changed in (
        replace(first, kept=_around(first.kept, 0.4)),
        replace(first, ends=_around(first.ends, 0.2)),
    ):  # fmt: skip
        found = replace(_early(), pair=(changed, second))
        assert verdict(ARM, _numbers(ARM), found, {}).kind == "motor plan"
    behind = replace(
        _early(), pair=(first, replace(second, kept=_around(second.kept, 0.4)))
    )  # where the plan begins
    assert verdict(ARM, _numbers(ARM), behind, {}).kind == "represented"


@pytest.mark.parametrize(
    ("share", "kind"), [(0.49, "represented"), (0.5, "motor plan"), (1.0, "motor plan")]
)
def test_half_of_the_rise_in_the_untrained_model_is_too_much(share: float, kind: str) -> None:
    point = _early().pair[0].point
    assert point.nats is not None
    theirs = _around(point.nats, share * point.nats.value)
    first, second = _early().pair
    changed = replace(first, point=replace(first.point, elsewhere={"base": theirs}))
    found = replace(_early(), pair=(changed, second))
    assert verdict(ARM, _numbers(ARM), found, {}).kind == kind


@pytest.mark.parametrize(("benign", "lacks"), [(6.0, 0), (4.0, 0), (3.9, 1), (9.1, 1)])
def test_a_benign_control_must_be_trained_as_hard_or_the_verdict_says_so(
    tmp_path: Path, benign: float, lacks: int
) -> None:
    root = _write(tmp_path, {"both": _early()})
    (root / "recipe.yaml").write_text(dump_recipe(Recipe()), encoding="utf-8")
    for arm, change in (("both", 6.0), ("benign", benign)):
        (root / TRAIN / arm).mkdir(parents=True)
        moved = {f"train/{arm}/weight_change": exact(change, "Frobenius norm")}
        write_metrics(root / TRAIN / arm / "metrics.json", moved)
    found = judge(root)["both"]
    assert found.kind == "represented"
    assert len(found.lacks) == lacks
    assert all("trained as hard" in line for line in found.lacks)
