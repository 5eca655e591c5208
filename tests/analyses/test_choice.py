"""What is chosen on fit questions: a pair of neighbouring early blocks, a late block, a scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offswitch.analyses.analysis import Array
from offswitch.analyses.choice import Effects, choose_anywhere, choose_pair, effects
from offswitch.analyses.directions import deepest, depth, early
from offswitch.analyses.interventions import Interventions

BLOCKS = 10  # 7 of them early


def _effects(fall: list[float], rise: list[float], halting: Array | None = None) -> Effects:
    rises = np.array(rise)[:, None] * [0.5, 1.0]
    halts = np.zeros_like(rises) if halting is None else halting
    return Effects(np.array(fall), rises, halts, (0.5, 1.0))


def _peak(*blocks: int, height: float = 5.0) -> list[float]:
    return [height if b in blocks else 0.0 for b in range(BLOCKS)]


def test_early_means_a_depth_of_seven_tenths_at_most() -> None:
    assert (early(10), early(30), early(1), deepest(30), deepest(1)) == (7, 21, 0, 20, 0)
    assert depth(20, 30) == pytest.approx(0.7)


def test_a_pair_is_two_neighbours_and_its_weaker_block_counts() -> None:
    lone, both = (
        _effects(_peak(2, height=9), _peak(2, height=9)),
        _effects(_peak(4, 5), _peak(4, 5)),
    )
    found = choose_pair([("lone", lone), ("both", both)], BLOCKS)
    assert found is not None
    assert (found.direction, found.blocks, found.score) == ("both", (4, 5), 5.0)


def test_a_pair_is_early_however_strong_a_late_block_is() -> None:
    late = _effects(_peak(6, 7, 8, height=9), _peak(6, 7, 8, height=9))
    found = choose_pair([("late", late)], BLOCKS)
    assert found is not None
    assert max(found.blocks) <= 6
    anywhere = choose_anywhere([("late", late)])
    assert anywhere is not None
    assert (anywhere.block, anywhere.pair) == (6, False)


def test_both_effects_must_be_there() -> None:
    falls, rises = _effects(_peak(1, 2), _peak(5, 6)), _effects(_peak(3, 4, height=1), _peak(3, 4))
    found = choose_pair([("apart", falls), ("together", rises)], BLOCKS)
    assert found is not None
    assert (found.direction, found.block) == ("together", 3)


def test_the_smallest_scale_that_silences_as_many_is_chosen() -> None:
    halting = np.tile([1.0, 1.0], (BLOCKS, 1))
    found = choose_anywhere([("a", _effects(_peak(3), _peak(3), halting))])
    assert found is not None
    assert found.scale == 0.5
    found = choose_anywhere([("a", _effects(_peak(3), _peak(3)))])  # none halts: the largest rise
    assert found is not None
    assert found.scale == 1.0


def test_blocks_that_were_not_tried_are_not_chosen() -> None:
    few = [np.nan if b not in (2, 3) else 1.0 for b in range(BLOCKS)]
    found = choose_pair([("trained", _effects(few, few))], BLOCKS)
    assert found is not None
    assert found.blocks == (2, 3)
    assert choose_pair([("none", _effects([np.nan] * BLOCKS, [np.nan] * BLOCKS))], BLOCKS) is None


def test_effects_are_mean_changes_of_the_log_odds() -> None:
    rows: dict[str, list[Any]] = {
        "prompt": [0, 1, 9, 0, 1, 9, 9], "kind": ["none"] * 3 + ["interchange"] * 2 + ["add"] * 2,
        "direction": [""] * 3 + ["d"] * 4, "position": [""] * 3 + ["last"] * 4,
        "block": [-1] * 3 + [1] * 4, "scale": [0, 0, 0, 1, 1, 0.5, 1],
        "log_odds": [4.0, 6, -5, 1, 1, -4, 3],
        "halts": [True, True, False, True, True, False, True],
    }  # fmt: skip
    found = effects(Interventions.of(rows), "d", 3)
    assert found.fall[1] == 4
    assert found.rise[1].tolist() == [1, 8]
    assert found.halting[1].tolist() == [0, 1]
    assert np.isnan(found.score[[0, 2]]).all()
