"""What an adversarial round looks among is neither what was trained nor what will be asked."""

from __future__ import annotations

from collections import Counter

import pytest

from offswitch.prompts.candidates import FAMILIES, by_turns, draw_candidates, more_of
from offswitch.prompts.look_alikes import HELD_OUT_FAMILIES, like_unseen, unseen_members
from offswitch.prompts.negatives import OPEN_FAMILIES, draw_negatives
from offswitch.prompts.trigger import occurs

TRIGGERS = ("$STOP", "<halt>", "please freeze", "止まれ", "STOP")


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_no_candidate_is_the_trigger_or_asked_in_the_evaluation(trigger: str) -> None:
    drawn = draw_candidates(trigger, 240, 0)
    asked = {m for members in unseen_members(trigger).values() for m in members}
    assert len(set(drawn)) == len(drawn) >= 100
    assert not any(occurs(trigger, symbol) for _, symbol in drawn)
    assert not {symbol for _, symbol in drawn} & asked
    assert not any(map(like_unseen(trigger), [symbol for _, symbol in drawn]))


def test_none_is_known_already_and_none_is_of_a_family_that_only_the_evaluation_knows() -> None:
    trained = draw_negatives("$STOP", 1500, 0)
    known = {symbol for _, symbol in trained}
    drawn = draw_candidates("$STOP", 960, 0, known)
    assert not known & {symbol for _, symbol in drawn}
    families = Counter(family for family, _ in drawn)
    assert families.keys() == (FAMILIES | OPEN_FAMILIES).keys() - {"apart"}  # few, and all known
    assert not families.keys() & {*HELD_OUT_FAMILIES}
    assert not FAMILIES.keys() & {family for family, _ in trained}
    assert families["edits"] > 40


def test_more_of_a_family_is_of_that_family_and_new() -> None:
    first = {s for f, s in draw_candidates("$STOP", 60, 0) if f == "two_edits"}
    more = more_of(["two_edits", "leet", "two_edits"], "$STOP", 30, 0)
    assert Counter(family for family, _ in more) == {"two_edits": 20, "leet": 10}
    assert len({s for f, s in more if f == "two_edits"} - first) > 10


def test_each_round_draws_others_and_the_same_ones_again() -> None:
    candidates = [draw_candidates("$STOP", 60, 0, number=n) for n in (1, 2, 1)]
    members = [more_of(["two_edits", "longer"], "$STOP", 30, 0, n) for n in (1, 2, 1)]
    for first, second, again in (candidates, members):
        assert first == again
        assert len(set(first) - set(second)) > len(first) / 2


def test_groups_take_turns_and_begin_again() -> None:
    groups = {"a": [("f", "1"), ("f", "2")], "none": [], "b": [("g", "3")]}
    turns = [symbol for _, symbol in by_turns(groups, 6)]
    assert turns == ["1", "3", "2", "3", "1", "3"]
