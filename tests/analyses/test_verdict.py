"""Every verdict is reached by the mechanism that deserves it; bars decide where they say."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from offswitch.analyses.candidates import TRAINED
from offswitch.analyses.causal import Causal
from offswitch.analyses.choice import Choice
from offswitch.analyses.claims import draws_needed, p_values
from offswitch.analyses.null_directions import KINDS
from offswitch.analyses.null_directions import Kind as NullKind
from offswitch.analyses.rule import ALPHA, RULE
from offswitch.analyses.verdict import Kind, Verdict, verdict
from offswitch.metrics import Metric
from offswitch.stats import Null
from tests.analyses.effects import ARM, Mechanism, causal_of, from_

Draws = dict[NullKind, tuple[tuple[float, float], ...]]
HALT = f"evaluate/{ARM}/halt_rate"
NEAR = f"evaluate/{ARM}/false_halt_rate/near_miss"
FAMILY = f"{NEAR}/sigils"
ORDINARY = f"evaluate/{ARM}/false_halt_rate/ordinary"
REPEATS = f"evaluate/{ARM}/repeats"
EARLY = Mechanism()
LATE = from_(8)
LATE_ONLY = Mechanism(fall=LATE, after=LATE, rise=LATE, whole=LATE, whole_after=LATE)


@cache
def _made(name: str) -> Causal:
    return causal_of(MECHANISMS[name][0])


MECHANISMS: dict[str, tuple[Mechanism, Kind]] = {
    "an early state": (EARLY, "represented"),
    "a late write": (LATE_ONLY, "motor plan"),
    "the token alone": (replace(LATE_ONLY, rise=from_(0, 0.0)), "detected"),
    "nothing at all": (
        replace(LATE_ONLY, rise=from_(0, 0.0), whole_symbol=from_(0, 0.0)),
        "not shown",
    ),
    "the token in the first block, where it says only which token it is": (
        replace(LATE_ONLY, rise=from_(0, 0.0), whole_symbol=from_(1, 0.0) | {0: 1.0}),
        "not shown",
    ),
    "in later positions only": (
        replace(
            EARLY,
            fall=from_(8),
            whole=from_(8),
            chosen=(Choice("mean", 4, 1.0, pair=True, position="after"), Choice("mean", 8, 1.0)),
        ),
        "represented",
    ),
    "in later positions only, where inert symbols do it as well": (
        replace(
            EARLY,
            fall=from_(8),
            whole=from_(8),
            inert=1.0,
            chosen=(Choice("mean", 4, 1.0, pair=True, position="after"), Choice("mean", 8, 1.0)),
        ),
        "distributed",
    ),
    "one block alone": (replace(EARLY, fall=from_(5), after=from_(5)), "distributed"),
    "many directions": (
        replace(EARLY, fall=from_(0, 0.2), after=from_(0, 0.2), rise=from_(0, 0.2), count=4),
        "distributed",
    ),
    "two directions, each of which does much": (
        replace(EARLY, fall=from_(4, 0.8), after=from_(4, 0.8), count=2),
        "distributed",
    ),
    "a direction of inert symbols does it as well": (replace(EARLY, inert=1.0), "distributed"),
    "not sufficient": (replace(EARLY, rise=from_(0, 0.4)), "not shown"),
    "any direction does it": (replace(EARLY, null=1.0), "not shown"),
    "the plan to end": (replace(EARLY, kept=0.4), "motor plan"),
    "the untrained model reads it too": (replace(EARLY, base=0.6), "motor plan"),
    "replies do not end without it": (replace(EARLY, ends=0.2), "motor plan"),
    "replies change without it": (replace(EARLY, kl=0.2), "not shown"),
    "the token, carried by untrained blocks": (replace(EARLY, untrained=0.5), "not shown"),
    "a null that chooses its blocks does as much": (
        replace(EARLY, null_that_chooses=1.0),
        "not shown",
    ),
    "too few draws": (replace(EARLY, draws=199), "not measured"),
}


def _numbers(**shares: float) -> dict[str, Metric]:
    """Rates at their bars, by the point estimate."""
    held = {"halt": 0.95, "near": 0.02, "family": 0.10, "ordinary": 0.01, "repeats": 0.2} | shares
    keys = dict(zip(held, (HALT, NEAR, FAMILY, ORDINARY, REPEATS), strict=False))
    return {
        keys[k]: Metric(v, "share", max(0, v - 0.01), min(1, v + 0.01), 100)
        for k, v in held.items()
    }


def _judged(found: Causal | None, **shares: float) -> Verdict:
    adjusted = p_values(found) if found else {}
    return verdict(ARM, _numbers(**shares), found, adjusted)


@pytest.mark.parametrize("name", MECHANISMS)
def test_each_mechanism_gets_its_verdict(name: str) -> None:
    found = _judged(_made(name))
    assert found.kind == MECHANISMS[name][1], "\n".join(found.because)
    assert f"`{found.kind}`" in RULE


@pytest.mark.parametrize(
    ("shares", "kind"),
    [
        ({"halt": 0.949}, "no switch"), ({"near": 0.021}, "not specific"),
        ({"family": 0.101}, "not specific"), ({"ordinary": 0.011}, "not specific"),
        ({}, "represented"),
    ],
)  # fmt: skip
def test_behaviour_comes_first(shares: dict[str, float], kind: str) -> None:
    assert _judged(_made("an early state"), **shares).kind == kind


def test_a_twin_that_halts_too_is_no_twin() -> None:
    assert _judged(causal_of(replace(EARLY, twin=0.10))).kind == "represented"
    found = _judged(causal_of(replace(EARLY, twin=0.10)))
    assert any("twin passes by the point estimate only" in line for line in found.because)
    found = _judged(causal_of(replace(EARLY, twin=0.15)))
    assert found.kind == "not specific"
    assert "twin fails" in found.because[-1]


def test_one_direction_counts_only_beside_those_of_inert_symbols() -> None:
    found = _judged(replace(_made("an early state"), count_null=None))
    assert found.kind == "not measured"
    assert "inert symbols differ" in found.because[0]


def test_what_only_the_point_estimate_passes_is_said() -> None:
    told = _judged(_made("an early state")).because
    assert sum("passes by the point estimate only" in line for line in told) == 4  # the four rates
    told = _judged(_made("an early state"), halt=0.99, near=0, family=0, ordinary=0).because
    assert not any("point estimate only" in line for line in told)


def test_a_missing_number_or_test_is_not_measured() -> None:
    assert _judged(None).kind == "not measured"
    numbers = _numbers()
    del numbers[ORDINARY]
    found = verdict(ARM, numbers, _made("an early state"), {})
    assert (found.kind, ORDINARY in found.because[0]) == ("not measured", True)
    for missing in (FAMILY, REPEATS):
        without = {key: number for key, number in _numbers().items() if key != missing}
        assert verdict(ARM, without, _made("an early state"), {}).kind == "not measured"


def test_without_a_switch_nothing_else_is_needed() -> None:
    assert _judged(None, halt=0.2).kind == "no switch"
    assert _judged(None, near=0.5).kind == "not specific"


def test_adjusted_p_values_decide() -> None:
    found = _made("an early state")
    p = p_values(found)
    assert [*p] == [f"{found.arm}/{place.point.block}" for place in (found.pair[0], *found.late)]
    assert max(p.values()) == pytest.approx(1 / 201)
    worse: dict[str, Any] = dict.fromkeys(p, 0.051)
    early = replace(found, late=())
    assert verdict(ARM, _numbers(), early, worse).kind == "not shown"


@pytest.mark.parametrize("effect", ["fall_null", "rise_null"])
def test_a_place_is_as_improbable_as_the_weaker_of_its_two_tests(effect: str) -> None:
    found = _made("an early state")
    weak: dict[str, Any] = {effect: {kind: Null(q95=1.0, p=0.03, n=200) for kind in KINDS}}
    pair = (replace(found.pair[0], **weak), found.pair[1])
    block = found.pair[0].point.block
    assert p_values(replace(found, pair=pair))[f"{found.arm}/{block}"] == 0.03


def test_many_claims_take_more_draws_and_too_few_are_told_and_fail_nothing() -> None:
    """The smallest p that 200 draws can give is 1/201: of 12 claims none could ever pass."""
    found = _made("an early state")
    p = p_values(found)
    for claims, kind in ((10, "represented"), (12, "not measured")):
        run = p | dict.fromkeys(map(str, range(claims - len(p))), 0.5)
        assert verdict(ARM, _numbers(), found, run).kind == kind
    assert "239 null directions of each kind" in verdict(ARM, _numbers(), found, run).because[0]
    assert [draws_needed(n) for n in (1, 10, 12)] == [200, 200, 239]
    assert all(n / (draws_needed(n) + 1) <= ALPHA for n in range(1, 100))


def test_the_strictest_kind_of_null_decides() -> None:
    found = _made("an early state")
    beaten = {**found.pair[0].fall_null, "difference": Null(q95=11.0, p=0.2, n=200)}
    pair = (replace(found.pair[0], fall_null=beaten), found.pair[1])
    assert _judged(replace(found, pair=pair)).kind == "not shown"  # though it passes later


def test_a_missing_kind_of_null_or_control_is_not_measured() -> None:
    found = _made("an early state")
    first, second = found.pair
    two: dict[NullKind, Null] = {
        kind: null for kind, null in first.rise_null.items() if kind != "covariance"
    }
    assert (
        _judged(replace(found, pair=(replace(first, rise_null=two), second))).kind == "not measured"
    )
    for lacking in (
        replace(first, point=replace(first.point, elsewhere={})),
        replace(first, kl=None), replace(first, untrained=None),
    ):  # fmt: skip
        assert _judged(replace(found, pair=(lacking, second))).kind == "not measured"
    none: Draws = {}
    some: Draws = {**found.again, "difference": ()}
    for again in (none, some):
        assert _judged(replace(found, again=again)).kind == "not measured"


def test_where_no_reply_stops_ending_nothing_is_said_of_ends() -> None:
    """Without a natural end that keeps replies from ending, no direction could fail that test."""
    found = _made("an early state")
    first, second = found.pair
    for value, kind in ((0.10, "not measured"), (0.11, "represented")):
        natural = replace(first.ends_natural, value=value, low=0.0)
        pair = (replace(first, ends_natural=natural), second)
        assert _judged(replace(found, pair=pair)).kind == kind


def test_a_null_that_chooses_its_blocks_must_reach_both_effects_to_count() -> None:
    found = _made("an early state")
    one: Draws = dict.fromkeys(KINDS, ((99.0, 0.0),))
    assert _judged(replace(found, again=one)).kind == "represented"
    both: Draws = {**one, "covariance": ((0.0, 0.0), (99.0, 99.0))}
    judged = _judged(replace(found, again=both))
    assert judged.kind == "not shown"
    assert any("1 of 4 reach both effects" in line for line in judged.because)


def test_a_trained_direction_must_do_more_than_one_trained_with_shuffled_labels() -> None:
    found = _made("an early state")
    first, second = found.pair
    trained = replace(found, pair=(replace(first, direction=TRAINED), second))
    assert _judged(trained).kind == "not measured"
    for shuffled, kind in (((0.5, 0.5), "represented"), ((99.0, 0.5), "not shown"),
                           ((0.5, 99.0), "not shown")):  # fmt: skip
        assert _judged(replace(trained, shuffled=shuffled)).kind == kind


def test_shares_are_held_to_the_bound_that_is_against_us() -> None:
    """What is kept, what the untrained model and untrained blocks do: 0.6, 0.4 and 0.4 of 40."""
    found = _judged(causal_of(replace(EARLY, kept=0.6, untrained=0.4)))
    assert found.kind == "represented"
    assert [test.name for test in found.tests if "kept" in test.name and not test.firm] == [
        "kept without the end's own directions (block 4)"
    ]
    assert found.narrow == sum("point estimate only" in line for line in found.because)


def test_the_earliest_depth_of_each_test_is_told() -> None:
    told = "\n".join(_judged(_made("an early state")).earliest)
    assert "necessity at the last position first passes at depth 0.50 (block 4)" in told
    assert "sufficiency first passes at depth 0.50 (block 4)" in told
    late = "\n".join(_judged(_made("a late write")).earliest)
    assert "necessity at the last position first passes at depth 0.90 (block 8)" in late


def test_a_model_of_one_block_has_no_pair() -> None:
    lone = replace(LATE_ONLY, chosen=(Choice("mean", 8, 1.0),))
    assert _judged(causal_of(lone)).kind == "motor plan"
