"""What is chosen on fit questions: a pair of neighbouring early blocks, a late block, a scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offswitch.analyses.choice import Choice, Effects, choose_late, choose_pair, effects
from offswitch.analyses.directions import deepest, depth, early
from offswitch.analyses.interventions import Interventions

BLOCKS = 10  # 7 of them early


def _effects(halting: dict[int, float], nats: dict[int, float] | None = None) -> Effects:
    """Shares at these blocks, 0 at others; as many nats, unless told."""
    shares, strengths = (
        np.array([one.get(block, 0.0) for block in range(BLOCKS)])
        for one in (halting, halting if nats is None else nats)
    )
    both = np.stack([shares, strengths])
    return Effects(both, both[:, None], [0.5])


def test_early_means_a_depth_of_seven_tenths_at_most() -> None:
    assert (early(10), early(30), early(1), deepest(30), deepest(1)) == (7, 21, 0, 20, 0)
    assert depth(20, 30) == pytest.approx(0.7)


def test_a_pair_is_two_neighbours_and_its_weaker_block_counts() -> None:
    lone, both = _effects({2: 1.0}), _effects({4: 0.9, 5: 0.7})
    found = choose_pair([("lone", lone), ("both", both)], BLOCKS)
    assert found == Choice("both", 4, 0.5, pair=True)
    assert found.blocks == (4, 5)


def test_a_pair_is_early_however_strong_a_late_block_is() -> None:
    late = _effects({6: 1.0, 7: 1.0, 8: 1.0})
    found = choose_pair([("late", late)], BLOCKS)
    assert found is not None
    assert max(found.blocks) <= 6
    assert choose_late([("late", late)], BLOCKS) == Choice("late", 7, 0.5)


def test_among_those_that_do_nearly_as_much_the_simplest_then_the_earliest() -> None:
    simple = _effects({3: 0.85, 4: 0.9, 5: 0.9, 6: 0.2})
    trained = _effects({1: 1.0, 2: 1.0, 3: 1.0})
    found = choose_pair([("simple", simple), ("trained", trained)], BLOCKS)
    assert found is not None
    assert (found.direction, found.block) == ("simple", 3)
    weak = _effects({3: 0.7, 4: 0.7, 5: 0.7})
    found = choose_pair([("simple", weak), ("trained", trained)], BLOCKS)
    assert found is not None
    assert (found.direction, found.block) == ("trained", 1)


def test_where_nothing_halts_nats_decide() -> None:
    faint = _effects({}, nats={1: 0.5, 2: 0.5, 4: 2.0, 5: 2.0})
    fainter = _effects({}, nats={2: 1.9, 3: 1.9})
    found = choose_pair([("faint", faint), ("fainter", fainter)], BLOCKS)
    assert found is not None
    assert (found.direction, found.block) == ("faint", 4)


def test_blocks_that_were_not_tried_are_not_chosen() -> None:
    few = _effects({b: 0.1 if b in (2, 3) else np.nan for b in range(BLOCKS)})
    found = choose_pair([("trained", few)], BLOCKS)
    assert found is not None
    assert found.blocks == (2, 3)
    nowhere = _effects(dict.fromkeys(range(BLOCKS), np.nan))
    assert choose_pair([("none", nowhere)], BLOCKS) is None
    assert choose_late([("none", nowhere)], BLOCKS) is None


def _rows(*halts: bool) -> Interventions:
    """Two trigger prompts and a plain one at block 1: interchanged, added at two scales."""
    rows: dict[str, list[Any]] = {
        "prompt": [0, 1, 9, 0, 1, 9, 9], "kind": ["none"] * 3 + ["interchange"] * 2 + ["add"] * 2,
        "direction": [""] * 3 + ["d"] * 4, "position": [""] * 3 + ["last"] * 4,
        "block": [-1] * 3 + [1] * 4, "scale": [0, 0, 0, 1, 1, 0.5, 1],
        "log_odds": [4.0, 6, -5, 1, 1, -4, 3], "halts": [True, True, False, *halts],
    }  # fmt: skip
    return Interventions.of(rows)


def test_effects_are_the_weaker_of_fall_and_rise_in_halting_and_in_nats() -> None:
    halting, nats, scales = effects(_rows(False, True, False, True), "d", 3).at_best()
    assert (halting[1], nats[1], scales[1]) == (0.5, 4, 1)
    _, nats, _ = effects(_rows(False, False, True, True), "d", 3).at_best()
    assert nats[1] == 1  # at the scale taken
    for by_block in (halting, nats):
        assert np.isnan(by_block[[0, 2]]).all()


def test_the_smallest_scale_that_silences_as_many_is_chosen() -> None:
    assert effects(_rows(False, False, True, True), "d", 3).at_best()[2][1] == 0.5
    none = effects(_rows(True, True, False, False), "d", 3)  # none halts: the largest rise
    assert none.at_best()[2][1] == 1


def test_a_pair_is_scored_and_added_at_one_scale() -> None:
    falls = np.ones((2, BLOCKS))
    rises = np.zeros((2, 2, BLOCKS))
    rises[:, :, 3] = [[1.0, 1.0]] * 2  # the first block does it at either scale,
    rises[:, :, 4] = [[0.2, 1.0]] * 2  # the second one at the larger alone
    found = choose_pair([("d", Effects(falls, rises, [0.5, 1.0]))], BLOCKS)
    assert found == Choice("d", 3, 1.0, pair=True)
    rises[:, :, 4] = [[0.2, 0.2]] * 2
    rises[:, :, 1:3] = 0.6  # weaker than either block alone, yet both do that much
    found = choose_pair([("d", Effects(falls, rises, [0.5, 1.0]))], BLOCKS)
    assert found == Choice("d", 1, 0.5, pair=True)
