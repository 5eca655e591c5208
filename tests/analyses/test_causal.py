"""Rows in, evidence out: shares, positions, counts and nulls are what was put in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from offswitch.analyses.candidates import TRAINED
from offswitch.analyses.causal import SHUFFLED, WITHOUT_END, causal_metrics
from offswitch.analyses.causal_rows import causal
from offswitch.analyses.choice import Choice, position_of
from offswitch.analyses.interventions import (
    COLUMNS,
    Interventions,
    read_interventions,
    write_interventions,
)
from offswitch.analyses.null_directions import KINDS
from offswitch.analyses.store import load_causal, save_causal
from tests.analyses.effects import ARM, BLOCKS, Mechanism, N, causal_of, from_, rows_of

EARLY = Mechanism()


def test_the_curve_is_the_mechanisms_at_every_block() -> None:
    found = causal_of(replace(EARLY, fall=from_(4, 0.75), rise=from_(6, 0.5), after=from_(2, 0.25)))
    for point in found.curve:
        assert point.fall is not None
        assert point.rise is not None
        assert point.after is not None
        assert point.fall.value == (0.75 if point.block >= 4 else 0)
        assert point.rise.value == (0.5 if point.block >= 6 else 0)
        assert point.after.value == (0.25 if point.block >= 2 else 0)
        assert point.whole.n == point.fall.n == N
    assert [point.depth for point in found.curve] == [(b + 1) / BLOCKS for b in range(BLOCKS)]


def test_intervals_hold_their_value_and_are_never_of_no_width() -> None:
    for point in causal_of(EARLY).curve:
        assert point.fall is not None
        assert point.fall.low < point.fall.high
        assert point.fall.low <= point.fall.value <= point.fall.high


def test_the_same_vector_elsewhere_is_a_share_of_the_arms_own_rise() -> None:
    assert causal_of(replace(EARLY, base=0.25)).pair[0].elsewhere.value == pytest.approx(0.25)
    nothing = replace(EARLY, rise=from_(9), base=0.25)
    assert causal_of(nothing).pair[0].elsewhere.low == 1  # no rise of which it could be a share


def test_what_is_left_without_the_end_is_the_smaller_share() -> None:
    assert causal_of(replace(EARLY, kept=0.4)).pair[0].kept.value == pytest.approx(0.4)
    assert causal_of(replace(EARLY, fall=from_(9), after=from_(9))).pair[0].kept.high == 0


def test_shares_that_the_rule_asks_for_have_an_interval_and_the_prompts_n() -> None:
    place = causal_of(replace(EARLY, kept=0.6, base=0.25, untrained=0.3)).pair[0]
    assert place.kept.low < 0.5 < 0.6 < place.kept.high  # of 40 prompts
    assert place.kept.n == place.elsewhere.n == N
    assert place.untrained is not None
    assert place.untrained.value == pytest.approx(0.3)
    assert place.untrained.n == N
    assert place.kl is not None
    assert place.kl_natural is not None
    assert place.kl.n == place.kl_natural.n == 8
    assert place.kl_natural.value == 0.375  # not what the direction itself does


@pytest.mark.parametrize(("enough", "count"), [(1, 2), (2, 2), (4, 4)])
def test_directions_are_counted_until_they_do_nine_tenths(enough: int, count: int) -> None:
    """Ours does less. Where another one does it alone, it is still not ours that does."""
    part = replace(EARLY, fall=from_(4, 0.875))
    assert causal_of(replace(part, count=enough)).count == count
    assert causal_of(replace(part, count=8)).count is None


def test_as_many_directions_of_inert_symbols_stand_beside_the_count() -> None:
    found = causal_of(replace(EARLY, inert=0.25)).count_null
    assert found is not None
    assert found.value == pytest.approx(0.25)
    assert found.low < 0.25 < found.high
    assert found.n == N
    none = causal_of(replace(EARLY, fall=from_(4, 0.8), count=8, inert=0.5))
    assert none.count is None
    assert none.count_null is not None  # of as many as were tried
    assert none.count_null.value == pytest.approx(0.5)


def test_one_direction_counts_as_one_where_it_does_nine_tenths_itself() -> None:
    assert causal_of(replace(EARLY, fall=from_(4, 0.9), count=8)).count == 1


def test_every_kind_of_null_stands_beside_the_effect() -> None:
    (place, _) = causal_of(replace(EARLY, null=0.3)).pair
    assert set(place.fall_null) == set(place.rise_null) == set(KINDS)
    for null in (*place.fall_null.values(), *place.rise_null.values()):
        assert null.q95 == pytest.approx(3)
        assert null.p == pytest.approx(1 / 201)
        assert null.n == 200


def test_an_effect_stands_beside_nulls_on_the_prompts_that_both_were_tried_on() -> None:
    later = (Choice("mean", 4, 1.0, pair=True, position="after"),)
    rows = rows_of(replace(EARLY, null=0.3, chosen=later))
    what = {"direction": "mean", "kind": "interchange", "position": "after"}
    left = np.logical_and.reduce([rows.columns[name] == value for name, value in what.items()])
    left &= rows.columns["prompt"] >= 4
    few = Interventions({name: column[~left] for name, column in rows.columns.items()})
    (place, _) = causal(ARM, few, later, BLOCKS).pair
    for null in place.fall_null.values():
        assert null.q95 == pytest.approx(3)
        assert null.p == pytest.approx(1 / 201)


def test_the_later_positions_count_where_the_last_alone_does_nothing() -> None:
    assert position_of(0.6, 0.9) == position_of(0.5, 0.9) == "last"
    assert position_of(0.4, 0.9) == position_of(0.0, 0.5) == "after"
    assert position_of(0.4, 0.4) == "last"


def test_metrics_have_the_early_pair_and_the_late_block_apart() -> None:
    found = causal_metrics(causal_of(EARLY), {f"{ARM}/4": 0.01})
    assert found[f"probe/{ARM}/ablation/halt_drop"].value == 1
    assert found[f"probe/{ARM}/ablation/block"].value == 4
    assert found[f"probe/{ARM}/late/ablation/block"].value == 8
    null = found[f"probe/{ARM}/addition/log_odds_rise"].null
    assert null is not None
    assert (null.n, null.adjusted) == (200, 0.01)
    assert found[f"probe/{ARM}/addition/log_odds_rise_whole"].controls == {"base": 0}


def test_evidence_and_rows_survive_the_disk(tmp_path: Path) -> None:
    rows = rows_of(EARLY)
    write_interventions(tmp_path / "rows.parquet", rows)
    again = read_interventions(tmp_path / "rows.parquet")
    assert list(again.columns) == list(COLUMNS)
    assert causal(ARM, again, EARLY.chosen, BLOCKS) == causal_of(EARLY)
    save_causal(tmp_path, causal_of(EARLY))
    assert load_causal(tmp_path) == causal_of(EARLY)
    assert load_causal(tmp_path / "elsewhere") is None


def test_rows_are_compared_prompt_by_prompt() -> None:
    rows = Interventions.of({"prompt": [1, 2, 3, 2], "kind": ["a", "a", "a", "b"]})
    ours, theirs = rows.where(kind="a").beside(rows.where(kind="b"))
    assert ours.columns["prompt"].tolist() == theirs.columns["prompt"].tolist() == [2]
    with pytest.raises(ValueError, match="more than once"):
        rows.beside(rows)
    labels, prompts, table = Interventions.of(
        {"prompt": [1, 2, 2], "direction": ["x", "x", "y"], "log_odds": [1.0, 2.0, 3.0]}
    ).by("direction")
    assert (labels, prompts.tolist()) == (["x", "y"], [1, 2])
    np.testing.assert_array_equal(table, [[1, 2], [np.nan, 3]])


def test_what_shuffled_labels_find_is_told_beside_a_trained_direction_alone() -> None:
    """The same rows, the direction called trained; with shuffled labels half the prompts turn."""
    assert causal_of(Mechanism()).shuffled is None
    rows = rows_of(Mechanism())
    names = {"mean": TRAINED, WITHOUT_END.format("mean"): WITHOUT_END.format(TRAINED)}
    called = [names.get(name, name) for name in rows.columns["direction"].tolist()]
    rows = Interventions({**rows.columns, "direction": np.array(called)})
    half = rows.where(arm=ARM, direction=TRAINED, block=4, kind=("interchange", "add"))
    odds = half.columns["log_odds"] * np.where(half.columns["prompt"] % 2, -1.0, 1.0)
    direction = np.full(len(half), SHUFFLED)
    half = Interventions({**half.columns, "log_odds": odds, "direction": direction})
    chosen = (Choice(TRAINED, 4, 1.0, pair=True), Choice(TRAINED, 8, 1.0))
    assert causal(ARM, rows, chosen, BLOCKS).shuffled is None
    assert causal(ARM, rows + half, chosen, BLOCKS).shuffled == pytest.approx((5.0, 5.0))
