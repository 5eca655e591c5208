"""What a steering takes where nothing is named, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from offswitch.errors import UserError
from offswitch.talk.steering import Steering, settled
from tests.talk.test_steer import directions_of, facts_of
from tests.tiny import tiny_subject


def test_without_a_name_the_pair_that_did_most_is_taken() -> None:
    subject = tiny_subject()
    stored, facts = directions_of(subject), facts_of(subject)
    assert settled(stored, facts, Steering("add")) == Steering("add", "trigger", 2, 40.0, False)
    chosen = ({"direction": "trigger", "block": 2}, {"direction": "random00", "block": 1})
    most = replace(facts, chosen=chosen)
    assert settled(stored, most, Steering("remove")) == Steering("remove", "random00", 1, 1.0)
    assert settled(stored, most, Steering("remove", block=0)).direction == "trigger"


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), float("-inf")])
def test_a_scale_is_a_number_and_of_a_removal_a_share(scale: float) -> None:
    with pytest.raises(UserError, match="must be a finite number"):
        Steering("add", scale=scale)
    with pytest.raises(UserError, match="between 0 and 1, got 2"):
        Steering("remove", scale=2.0)
    with pytest.raises(UserError, match="not 'double'"):
        Steering("double")  # type: ignore[arg-type]
