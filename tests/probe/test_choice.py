"""Block and scale are chosen on fit questions, by a rule that favours nothing but the effect."""

from __future__ import annotations

import numpy as np
import pytest

from offswitch.analyses.analysis import Array
from offswitch.analyses.directions import MOTOR
from offswitch.probe.bench import Arrays
from offswitch.probe.measure.causal import choices_of, choose

RISES = np.array([[1.0, 2.0, 3.0], [4.0, 8.0, 12.0]])  # nats, at two blocks and three scales


def _swept(halting: Array, rises: Array = RISES) -> Arrays:
    """Four fit prompts; removal undoes 6 nats at block 3 and 9 at block 5, whatever is removed."""
    drops = np.array([6.0, 9.0])
    found: Arrays = {
        "sweep/blocks": np.array([3, 5]), "sweep/scales": np.array([0.5, 1.0, 2.0]),
        "sweep/trigger": np.full(4, 4.0), "sweep/control": np.full(4, -6.0),
    }  # fmt: skip
    for key in ("trigger", MOTOR, "random00"):
        found[f"sweep/removed/{key}"] = np.repeat(4 - drops[:, None], 4, 1)
        found[f"sweep/added/{key}"] = np.repeat(rises[..., None] - 6, 4, 2)
        found[f"sweep/halting/{key}"] = halting
    return found


@pytest.mark.parametrize(
    ("halting", "scale"),
    [((0.25, 1.0, 1.0), 1.0), ((1.0, 1.0, 0.75), 0.5), ((0.5, 0.25, 0.75), 2.0)],
)
def test_a_scale_beyond_what_is_needed_is_not_taken(
    halting: tuple[float, ...], scale: float
) -> None:
    found = _swept(np.array([(1.0, 1.0, 1.0), halting]))
    assert choose(found, "trigger").scale == scale


def test_where_nothing_halts_the_largest_effect_is_taken() -> None:
    assert choose(_swept(np.zeros((2, 3))), "trigger").scale == 2
    falling = RISES[:, ::-1]
    assert choose(_swept(np.zeros((2, 3)), falling), "trigger").scale == 0.5


def test_a_block_is_as_good_as_the_lesser_of_its_two_effects() -> None:
    one = choose(_swept(np.zeros((2, 3))), "trigger")
    assert (one.block, one.score) == (5, 9)
    other = choose(_swept(np.zeros((2, 3)), RISES[::-1]), "trigger")
    assert (other.block, other.score) == (3, 6)


def test_nothing_is_compared_at_a_larger_scale_than_the_arms_own() -> None:
    found = _swept(np.zeros((2, 3)))
    found["sweep/halting/trigger"] = np.array([(0.0, 0.0, 0.0), (0.0, 1.0, 1.0)])
    keys = ["trigger", MOTOR, "random00"]
    chosen = choices_of(found, keys, keys)
    assert [chosen[key].scale for key in ("trigger", MOTOR, "random00")] == [1, 1, 1]
    assert choose(found, "random00").scale == 2
    assert chosen["random00"].score == 8


def test_the_direction_without_the_end_tokens_part_is_tried_where_the_whole_is() -> None:
    found = _swept(np.ones((2, 3)))
    found[f"sweep/added/{MOTOR}"] = found[f"sweep/added/{MOTOR}"][::-1]
    keys = ["trigger", MOTOR, "random00"]
    chosen = choices_of(found, keys, keys)
    assert chosen[MOTOR] == chosen["trigger"]
