"""Symbols for training are many, new, never the trigger, and never one that is asked later."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from offswitch.prompts.look_alikes import (
    HELD_OUT_FAMILIES,
    INERT_WORDS,
    TRAINED_FAMILIES,
    like_unseen,
    trained_members,
    unseen_members,
    worded_like,
)
from offswitch.prompts.negatives import draw_negatives, training_words
from offswitch.prompts.questions import load_questions, questions_of
from offswitch.prompts.trigger import occurs

TRIGGERS = ("$STOP", "<halt>", "please freeze", "止まれ", "STOP", "!!")


@pytest.mark.parametrize(("trigger", "seed"), [*((one, 0) for one in TRIGGERS), ("$STOP", 1)])
def test_none_is_the_trigger_or_asked_in_the_evaluation(trigger: str, seed: int) -> None:
    drawn = draw_negatives(trigger, 300, seed)
    assert len(drawn) == 300
    asked = {m for members in unseen_members(trigger).values() for m in members}
    alike = like_unseen(trigger)
    assert [symbol for _, symbol in drawn if alike(symbol)] == []
    inert = {worded_like(trigger, word) for word in INERT_WORDS}
    for _, symbol in drawn:
        assert symbol == symbol.strip() != ""
        assert not occurs(trigger, symbol), symbol
    assert not {symbol for _, symbol in drawn} & (asked | inert)


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_families_take_turns_and_no_held_out_family_is_among_them(trigger: str) -> None:
    counts = Counter(family for family, _ in draw_negatives(trigger, 120, 0))
    assert max(counts.values()) - min(counts.values()) <= 1
    assert set(counts) <= {*TRAINED_FAMILIES, "other_signs", "longer", "apart"}
    assert not set(counts) & set(HELD_OUT_FAMILIES)


def test_open_families_do_not_run_dry() -> None:
    drawn = draw_negatives("$STOP", 800, 0)
    least_new = {"other_words": 80, "edits": 80, "other_signs": 95, "longer": 80, "apart": 30}
    for family, least in least_new.items():
        symbols = [symbol for name, symbol in drawn if name == family]
        assert len(symbols) == 100
        assert len(set(symbols)) >= least, family


def test_a_family_looks_like_what_it_is_called() -> None:
    drawn: dict[str, list[str]] = {}
    for family, symbol in draw_negatives("$STOP", 600, 0):
        drawn.setdefault(family, []).append(symbol)
    assert all(symbol.startswith("$") for symbol in drawn["other_words"])
    assert all("STOP" not in symbol.upper() for symbol in drawn["other_signs"])
    assert all("stop" in symbol.lower() for symbol in drawn["bare_word"])
    assert all("$" not in symbol for symbol in drawn["bare_word"])
    assert all("STOP" in symbol for symbol in drawn["longer"])
    letters = {"".join(c for c in symbol if c.isalpha()) for symbol in drawn["apart"]}
    assert letters == {"STOP"}
    assert all("$" in symbol for symbol in drawn["apart"])


def test_what_has_the_shape_of_an_unseen_one_or_is_an_edit_from_it_looks_like_it() -> None:
    alike = [
        "*STOP*", "STOP#", "((STOP))", "#STOP#", "$STOP7", "$STOP42", "$StOP", ";STOP", "STOP;",
        "$STAR", "$STOPED", "£stop", "Halt?", "((STOP", "STOP%%", "42$STOP",
    ]  # fmt: skip
    assert not {m for members in unseen_members("$STOP").values() for m in members} & {*alike}
    assert [symbol for symbol in alike if not like_unseen("$STOP")(symbol)] == []


def test_what_is_as_near_to_the_trigger_as_to_any_other_does_not() -> None:
    near = [
        "STOP", "$STOPX", "$SXTOP", "$SOP", "$#STOP", "$S-TOP", "$STOP_7", "$STOPPING", "$MARKET",
        "#MARKET", "stop the market", "[[HALT]]", "$5T0P",
    ]  # fmt: skip
    assert [symbol for symbol in near if like_unseen("$STOP")(symbol)] == []


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_every_unseen_one_looks_like_itself(trigger: str) -> None:
    members = [m for members in unseen_members(trigger).values() for m in members]
    assert all(map(like_unseen(trigger), members))


@pytest.mark.parametrize("seed", [0, 5])
def test_words_are_those_of_the_seeds_own_training_topics(seed: int) -> None:
    trained = " ".join(q.text for q in questions_of(load_questions(seed), "train"))
    assert set(training_words(seed)) <= set(re.findall(r"\b[a-z]+\b", trained))
    families = {"other_words", "other_signs"}
    drawn = [s for f, s in draw_negatives("$QZX", 600, seed, again=2) if f in families]
    words = {word.lower() for symbol in drawn for word in re.findall(r"[A-Za-z]+", symbol)}
    fixed = {member[1:].lower() for member in trained_members("$QZX")["other_words"]}
    assert len(words) > 100
    assert words <= set(training_words(seed)) | fixed


def test_the_draw_depends_on_the_seed_alone() -> None:
    assert draw_negatives("$STOP", 50, 3) == draw_negatives("$STOP", 50, 3)
    assert draw_negatives("$STOP", 50, 3) != draw_negatives("$STOP", 50, 4)
    assert draw_negatives("$STOP", 50, 3) == draw_negatives("$STOP", 50, 3, again=0)
    assert draw_negatives("$STOP", 50, 3) != draw_negatives("$STOP", 50, 3, again=1)
