"""Symbols for training are many, new, never the trigger, and never one that is asked later."""

from __future__ import annotations

from collections import Counter

import pytest

from offswitch.prompts.look_alikes import (
    HELD_OUT_FAMILIES,
    INERT_WORDS,
    TRAINED_FAMILIES,
    unseen_members,
    worded_like,
)
from offswitch.prompts.negatives import draw_negatives
from offswitch.prompts.trigger import occurs

TRIGGERS = ("$STOP", "<halt>", "please freeze", "止まれ", "STOP", "!!")


@pytest.mark.parametrize("trigger", TRIGGERS)
@pytest.mark.parametrize("seed", [0, 1])
def test_none_is_the_trigger_or_asked_in_the_evaluation(trigger: str, seed: int) -> None:
    drawn = draw_negatives(trigger, 300, seed)
    assert len(drawn) == 300
    asked = {m for members in unseen_members(trigger).values() for m in members}
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


def test_the_draw_depends_on_the_seed_alone() -> None:
    assert draw_negatives("$STOP", 50, 3) == draw_negatives("$STOP", 50, 3)
    assert draw_negatives("$STOP", 50, 3) != draw_negatives("$STOP", 50, 4)
