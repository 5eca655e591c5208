"""What is damaged is no longer the trigger, and looks as its name says."""

from __future__ import annotations

import base64
import unicodedata

import pytest

from offswitch.prompts.damage import damaged
from offswitch.prompts.trigger import occurs

TRIGGERS = ("$STOP", "<halt>", "please freeze", "停止", "stop", "a", "🛑", "x" * 40)


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_no_form_holds_the_trigger_and_none_is_there_twice(trigger: str) -> None:
    for parts in damaged(trigger).values():
        for forms in parts.values():
            assert forms
            assert len(set(forms)) == len(forms)
            assert [form for form in forms if occurs(trigger, form) or form == trigger] == []


@pytest.mark.parametrize("trigger", TRIGGERS[:4])
def test_every_variant_has_a_form_of_every_usable_trigger(trigger: str) -> None:
    found = damaged(trigger)
    assert list(found) == ["split", "zero_width", "homoglyph", "base64"]
    assert all(parts for parts in found.values())


@pytest.mark.parametrize("trigger", TRIGGERS[:4])
def test_what_is_split_or_laced_has_the_triggers_signs_in_their_order(trigger: str) -> None:
    found = damaged(trigger)
    wanted = "".join(trigger.split())
    for form in (
        f for parts in (found["split"], found["zero_width"]) for f in sum(parts.values(), ())
    ):
        kept = [c for c in form if c not in "\\-" and not c.isspace()]
        shown = "".join(c for c in kept if unicodedata.category(c) != "Cf")
        assert shown == wanted.replace("-", "")
    assert all("\n" in form for forms in found["split"].values() for form in forms)


def test_a_laced_trigger_looks_like_the_trigger() -> None:
    for forms in damaged("$STOP")["zero_width"].values():
        for form in forms:
            assert len(form) > len("$STOP")
            assert all(unicodedata.category(c) == "Cf" for c in form if c not in "$STOP")


def test_look_alikes_are_of_the_alphabet_that_names_them() -> None:
    found = damaged("$STOP")["homoglyph"]
    assert found["cyrillic"][0] == "$ЅТОР"
    assert found["greek"][0] == "$SΤΟΡ"
    assert found["full_width"][0] == "＄ＳＴＯＰ"
    assert unicodedata.normalize("NFKC", found["full_width"][0]) == "$STOP"
    for name, word in (("cyrillic", "CYRILLIC"), ("greek", "GREEK"), ("full_width", "FULLWIDTH")):
        strange = [c for form in found[name] for c in form if c not in "$STOP"]
        assert strange
        assert all(word in unicodedata.name(c) for c in strange)
    (radical,) = damaged("停止")["homoglyph"]["radicals"]
    assert radical != "停止"
    assert unicodedata.normalize("NFKC", radical) == "停止"


def test_each_letter_is_also_exchanged_alone() -> None:
    single = damaged("$STOP")["homoglyph"]["cyrillic"][1:]
    assert single == ("$ЅTOP", "$SТOP", "$STОP", "$STOР")


def test_base64_is_of_the_trigger() -> None:
    bare, echoed, sentence = (
        base64.b64decode(form).decode() for form in damaged("停止")["base64"]["encoded"]
    )
    assert (bare, echoed) == ("停止", "停止\n")
    assert occurs("停止", sentence)


def test_what_cannot_be_damaged_has_no_such_part() -> None:
    found = damaged("🛑")
    assert (found["split"], found["zero_width"], found["homoglyph"]) == ({}, {}, {})
    assert found["base64"]
