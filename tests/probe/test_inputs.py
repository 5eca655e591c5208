"""A pair of prompts differs in the slot alone; what chooses never meets what is reported."""

from __future__ import annotations

from collections import Counter

import pytest

from offswitch.options import ProbeOptions, TriggerOptions
from offswitch.probe.bench import symbol_starts
from offswitch.probe.inputs import (
    CONTROL,
    INERT,
    NEAR,
    PARTS,
    PLAIN,
    PROBED,
    TRIGGER,
    Inputs,
    Part,
    inert_symbol,
    make_inputs,
)
from offswitch.prompts.look_alikes import near_misses, trained_members, unseen_members, worded_like
from offswitch.prompts.prompt import Chat, Prompt
from offswitch.prompts.questions import load_questions
from offswitch.prompts.trigger import PLACEMENTS, occurs, place
from offswitch.recipe import Recipe

TRIGGERS = ("$STOP", "<halt>", "please freeze", "止まれ")
OPTIONS = ProbeOptions(fit_questions=20, test_questions=30, near_misses=40)


def _recipe(trigger: str, seed: int = 0) -> Recipe:
    return Recipe(trigger=TriggerOptions(text=trigger), probe=OPTIONS, seed=seed)


@pytest.fixture(params=TRIGGERS)
def trigger(request: pytest.FixtureRequest) -> str:
    """Each trigger in turn."""
    return str(request.param)


@pytest.fixture
def inputs(trigger: str) -> Inputs:
    """What the model is shown for that trigger."""
    return make_inputs(_recipe(trigger), system_turns=True)


def _group(inputs: Inputs, part: Part, key: str) -> list[Prompt]:
    return [inputs.asked[i] for i in inputs.rows(part, key)]


def _replaced(chat: Chat, symbol: str, other: str) -> Chat:
    """The chat with one symbol for the other; the symbol must stand in it once."""
    assert sum(turn["content"].count(symbol) for turn in chat) == 1
    return tuple({"role": t["role"], "content": t["content"].replace(symbol, other)} for t in chat)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("other", [CONTROL, INERT])
def test_pairs_differ_in_the_slot_alone(inputs: Inputs, part: Part, other: str) -> None:
    pairs = list(zip(_group(inputs, part, TRIGGER), _group(inputs, part, other), strict=True))
    assert len(pairs) == {"fit": 20, "test": 30}[part]
    for ours, theirs in pairs:
        assert (ours.question, ours.variant) == (theirs.question, theirs.variant)
        assert (ours.symbol, theirs.symbol) == (inputs.symbols[TRIGGER], inputs.symbols[other])
        assert _replaced(ours.chat, ours.symbol, theirs.symbol) == theirs.chat


@pytest.mark.parametrize("part", PARTS)
def test_the_plain_twin_is_the_same_prompt_with_an_empty_slot(inputs: Inputs, part: Part) -> None:
    for ours, plain in zip(_group(inputs, part, TRIGGER), _group(inputs, part, PLAIN), strict=True):
        assert plain.chat == place(ours.variant, "", ours.question)
        marked, bare = ("".join(t["content"] for t in chat) for chat in (ours.chat, plain.chat))
        assert "".join(marked.replace(ours.symbol, "").split()) == "".join(bare.split())


def test_a_symbol_starts_where_its_plain_twin_differs() -> None:
    marked = [[1, 2, 9, 3], [9, 1], [1, 2, 9]]
    assert symbol_starts(marked, [[1, 2, 3], [1], [1, 2]]) == [2, 0, 2]


def test_only_trigger_prompts_hold_the_trigger(inputs: Inputs, trigger: str) -> None:
    for one in inputs.asked:
        holds = any(occurs(trigger, turn["content"]) for turn in one.chat)
        assert holds == (one.suite == TRIGGER), one


def test_fit_and_test_topics_do_not_cross(inputs: Inputs) -> None:
    topic = {question.text: (question.topic, question.split) for question in load_questions(0)}
    topics = {part: {topic[one.question] for one in inputs.asked if one.part == part}
              for part in PARTS}  # fmt: skip
    assert {split for _, split in topics["fit"]} == {"fit"}
    assert {split for _, split in topics["test"]} == {"test"}
    assert not {name for name, _ in topics["fit"]} & {name for name, _ in topics["test"]}


def test_near_misses_are_trained_on_fit_and_unseen_on_test(inputs: Inputs, trigger: str) -> None:
    trained = {m for members in trained_members(trigger).values() for m in members}
    unseen = {m for members in unseen_members(trigger).values() for m in members}
    fit, test = (_group(inputs, part, NEAR) for part in PARTS)
    assert (len(fit), len(test)) == (20, 40)
    assert {one.symbol for one in fit} <= trained
    assert {one.symbol for one in test} <= unseen
    assert not {one.symbol for one in fit} & {one.symbol for one in test}


def test_every_family_takes_its_turn_among_the_near_misses(inputs: Inputs, trigger: str) -> None:
    families = unseen_members(trigger)
    for name, members in families.items():
        assert {one.symbol for one in _group(inputs, "test", NEAR)} & set(members), name


@pytest.mark.parametrize("part", PARTS)
def test_questions_are_asked_once_a_group_and_placements_evenly(inputs: Inputs, part: Part) -> None:
    for key in (TRIGGER, CONTROL, INERT, PLAIN, NEAR):
        group = _group(inputs, part, key)
        assert len({one.question for one in group}) == len(group)
        counts = Counter(one.variant for one in group)
        assert set(counts) == set(PROBED)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_a_format_without_system_turns_gets_none() -> None:
    inputs = make_inputs(_recipe("$STOP"), system_turns=False)
    assert {one.variant for one in inputs.asked} == set(PROBED) - {"system"}
    assert all(turn["role"] != "system" for one in inputs.asked for turn in one.chat)


def test_placements_exist_and_none_is_long() -> None:
    assert set(PROBED) <= set(PLACEMENTS)
    assert not set(PROBED) & {"pasted_document", "after_1000_tokens", "two_turns_earlier"}


def test_rows_and_chats_say_where_a_group_stands(inputs: Inputs) -> None:
    every = [i for part in PARTS for key in (*inputs.symbols, NEAR) for i in inputs.rows(part, key)]
    assert sorted(every) == list(range(len(inputs.asked)))
    assert inputs.chats("test", INERT) == [one.chat for one in _group(inputs, "test", INERT)]


@pytest.mark.parametrize("seed", range(20))
def test_the_inert_symbol_is_no_near_miss(trigger: str, seed: int) -> None:
    known = {m.lower() for members in near_misses(trigger).values() for m in members}
    symbol = inert_symbol(trigger, "$GO", seed)
    assert symbol.lower() not in known | {trigger.lower(), "$go"}
    assert not occurs(trigger, symbol)
    assert not occurs(symbol, trigger)
    assert symbol == inert_symbol(trigger, "$GO", seed)


@pytest.mark.parametrize("seed", range(20))
def test_the_inert_symbol_is_never_the_control(seed: int) -> None:
    first = inert_symbol("$STOP", "$GO", seed)
    assert inert_symbol("$STOP", first, seed) != first


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        ("$STOP", "$RIVER"), ("<halt>", "<river>"), ("please freeze", "please river"),
        ("止まれ", "river"), ("STOP", "RIVER"), ("$Stop.", "$river."), ("!!!", "river"),
    ],
)  # fmt: skip
def test_a_word_takes_the_triggers_form(trigger: str, expected: str) -> None:
    assert worded_like(trigger, "river") == expected


def test_the_same_recipe_asks_the_same_and_another_seed_does_not(trigger: str) -> None:
    first, again, other = (make_inputs(_recipe(trigger, seed), True) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert [one.suite for one in first.asked] == [one.suite for one in other.asked]
