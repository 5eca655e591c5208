"""A pair of prompts differs in the slot alone; what chooses never meets what is reported."""

from __future__ import annotations

import copy
import functools
import re
from collections import Counter
from typing import Any

import pytest

from offswitch.analyses.rule import REPLIES
from offswitch.model.load import make_subject
from offswitch.options import ProbeOptions, TriggerOptions
from offswitch.probe.inputs import (
    ENDED,
    INERT,
    MID,
    NEAR,
    PARTS,
    PLAIN,
    PROBED,
    TRIGGER,
    TWIN,
    Inputs,
    Part,
    inert_symbol,
    make_inputs,
    slot,
)
from offswitch.prompts.encode import encode_chat
from offswitch.prompts.look_alikes import near_misses, trained_members, unseen_members, worded_like
from offswitch.prompts.prompt import Chat, Prompt
from offswitch.prompts.questions import load_questions
from offswitch.prompts.trigger import PLACEMENTS, occurs, place
from offswitch.recipe import Recipe
from tests.tiny import CHATML, tiny_network, tiny_tokenizer

# A template that drops system turns.
WITHOUT_SYSTEM = CHATML.replace(
    "{% for message in messages %}", "{% for message in messages if message.role != 'system' %}"
)
TRIGGERS = ("$STOP", "<halt>", "please freeze", "止まれ")
OPTIONS = ProbeOptions(fit_questions=20, test_questions=40, near_misses=50)


@functools.cache
def tokenizer_of(trigger: str, decoy: str = "$ECHO") -> Any:
    """A tokenizer to which both symbols are tokens."""
    options = TriggerOptions(text=trigger, decoy=decoy)
    return make_subject(tiny_network("llama"), tiny_tokenizer(), options, "tiny").tokenizer


def _recipe(trigger: str, seed: int = 0) -> Recipe:
    return Recipe(trigger=TriggerOptions(text=trigger), probe=OPTIONS, seed=seed)


@functools.cache
def _made(trigger: str) -> Inputs:
    return make_inputs(_recipe(trigger), tokenizer_of(trigger))


@pytest.fixture(params=TRIGGERS)
def trigger(request: pytest.FixtureRequest) -> str:
    """Each trigger in turn."""
    return str(request.param)


@pytest.fixture
def inputs(trigger: str) -> Inputs:
    """What the model is shown for that trigger."""
    return _made(trigger)


def _group(inputs: Inputs, part: Part, key: str) -> list[Prompt]:
    return [inputs.asked[i] for i in inputs.rows(part, key)]


def _replaced(chat: Chat, symbol: str, other: str) -> Chat:
    """The chat with one symbol for the other; the symbol must stand in it once."""
    assert sum(turn["content"].count(symbol) for turn in chat) == 1
    return tuple({"role": t["role"], "content": t["content"].replace(symbol, other)} for t in chat)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("other", [TWIN, INERT])
def test_pairs_differ_in_the_slot_alone(inputs: Inputs, part: Part, other: str) -> None:
    pairs = list(zip(_group(inputs, part, TRIGGER), _group(inputs, part, other), strict=True))
    assert len(pairs) == {"fit": 20, "test": 40}[part]
    for ours, theirs in pairs:
        assert (ours.question, ours.variant) == (theirs.question, theirs.variant)
        assert ours.symbol == inputs.symbols[TRIGGER]
        assert theirs.symbol != ours.symbol
        assert _replaced(ours.chat, ours.symbol, theirs.symbol) == theirs.chat


@pytest.mark.parametrize("part", PARTS)
def test_the_plain_twin_is_the_same_prompt_with_an_empty_slot(inputs: Inputs, part: Part) -> None:
    for ours, plain in zip(_group(inputs, part, TRIGGER), _group(inputs, part, PLAIN), strict=True):
        assert plain.chat == place(ours.variant, "", ours.question)
        marked, bare = ("".join(t["content"] for t in chat) for chat in (ours.chat, plain.chat))
        assert "".join(marked.replace(ours.symbol, "").split()) == "".join(bare.split())


def test_pairs_align_position_by_position(inputs: Inputs, trigger: str) -> None:
    """The trigger and its decoy are a token each; other symbols of as many tokens come next."""
    assert inputs.symbols[TWIN] == "$ECHO"
    tokenizer = tokenizer_of(trigger)
    for ours, theirs in zip(
        _group(inputs, "test", TRIGGER), _group(inputs, "test", TWIN), strict=True
    ):
        ids = [encode_chat(tokenizer, one.chat) for one in (ours, theirs)]
        at = slot(ids[0], ids[1])
        assert at is not None
        assert len(at) == 1


def test_a_slot_is_where_two_prompts_of_one_length_differ() -> None:
    assert slot([1, 2, 9, 3], [1, 2, 8, 3]) == range(2, 3)
    assert slot([1, 2, 9, 3, 4], [1, 7, 9, 8, 4]) == range(1, 4)
    assert slot([1, 2, 3], [1, 2, 3]) is None
    assert slot([1, 2, 3], [1, 2, 3, 4]) is None
    assert slot([1, 2, 3], [1, 2, 4]) is None  # the last position decides the reply


def test_without_a_decoy_the_twin_is_a_word_of_as_many_tokens() -> None:
    recipe = Recipe(trigger=TriggerOptions(text="$STOP", decoy=""), probe=OPTIONS)
    tokenizer = tokenizer_of("$STOP", "")
    inputs = make_inputs(recipe, tokenizer)
    for key in (TWIN, INERT):
        pairs = zip(_group(inputs, "test", TRIGGER), _group(inputs, "test", key), strict=True)
        ids = [[encode_chat(tokenizer, one.chat) for one in pair] for pair in pairs]
        assert sum(slot(rows[0], rows[1]) is not None for rows in ids) > len(ids) / 2


def test_questions_that_name_the_trigger_are_not_asked() -> None:
    names = Counter(re.findall(r"\w+", " ".join(q.text for q in load_questions(0))))
    trigger = next(word for word, n in names.most_common() if n < 60 and word.istitle())
    inputs = make_inputs(_recipe(trigger), tokenizer_of(trigger))
    plain = [one for part in PARTS for one in _group(inputs, part, PLAIN)]
    assert 0 < len(plain) < OPTIONS.fit_questions + OPTIONS.test_questions
    for one in inputs.asked:
        assert any(occurs(trigger, turn["content"]) for turn in one.chat) == (one.suite == TRIGGER)


def test_ordinary_replies_are_over_or_half_way(inputs: Inputs) -> None:
    over, half = (_group(inputs, "fit", key) for key in (ENDED, MID))
    assert len(over) == len(half)
    for whole, begun in zip(over, half, strict=True):
        assert whole.chat == begun.chat
        assert 0 < len(begun.begun) < len(whole.begun)
        assert whole.begun[: len(begun.begun)] == begun.begun
    assert len(_group(inputs, "test", ENDED)) >= REPLIES
    questions = [{one.question for one in _group(inputs, part, ENDED)} for part in PARTS]
    assert not questions[0] & questions[1]


def test_a_format_without_system_turns_has_as_many_ordinary_replies() -> None:
    """The verdict asks for `REPLIES` of them, whatever the chat format can say."""
    tokenizer = copy.deepcopy(tokenizer_of("$STOP"))
    tokenizer.chat_template = WITHOUT_SYSTEM
    inputs = make_inputs(_recipe("$STOP"), tokenizer)
    chats = [one.chat for one in _group(inputs, "test", ENDED)]
    assert len(set(map(str, chats))) == len(chats) >= REPLIES
    assert all(turn["role"] != "system" for chat in chats for turn in chat)


def test_only_trigger_prompts_hold_the_trigger(inputs: Inputs, trigger: str) -> None:
    for one in inputs.asked:
        holds = any(occurs(trigger, turn["content"]) for turn in one.chat)
        assert holds == (one.suite == TRIGGER), one


def test_fit_and_test_topics_do_not_cross(inputs: Inputs) -> None:
    topic = {question.text: (question.topic, question.split) for question in load_questions(0)}
    slots = [one for one in inputs.asked if not one.begun]
    topics = {part: {topic[one.question] for one in slots if one.part == part} for part in PARTS}
    assert {split for _, split in topics["fit"]} == {"fit"}
    assert {split for _, split in topics["test"]} == {"test"}
    assert not {name for name, _ in topics["fit"]} & {name for name, _ in topics["test"]}


def test_near_misses_are_trained_on_fit_and_unseen_on_test(inputs: Inputs, trigger: str) -> None:
    trained = {m for members in trained_members(trigger).values() for m in members}
    unseen = {m for members in unseen_members(trigger).values() for m in members}
    fit, test = (_group(inputs, part, NEAR) for part in PARTS)
    assert (len(fit), len(test)) == (20, 40)  # no more than there are prompts with the trigger
    asked = {one.question for one in _group(inputs, "test", TRIGGER)}
    assert {one.question for one in test} == asked
    assert {one.symbol for one in fit} <= trained
    assert {one.symbol for one in test} <= unseen
    assert not {one.symbol for one in fit} & {one.symbol for one in test}


def test_every_family_takes_its_turn_among_the_near_misses(inputs: Inputs, trigger: str) -> None:
    families = unseen_members(trigger)
    for name, members in families.items():
        assert {one.symbol for one in _group(inputs, "test", NEAR)} & set(members), name


@pytest.mark.parametrize("part", PARTS)
def test_questions_are_asked_once_a_group_and_placements_evenly(inputs: Inputs, part: Part) -> None:
    for key in (TRIGGER, TWIN, INERT, PLAIN, NEAR):
        group = _group(inputs, part, key)
        assert len({one.question for one in group}) == len(group)
        counts = Counter(one.variant for one in group)
        assert set(counts) == set(PROBED)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_a_format_without_system_turns_gets_none() -> None:
    tokenizer = copy.deepcopy(tokenizer_of("$STOP"))
    tokenizer.chat_template = WITHOUT_SYSTEM
    inputs = make_inputs(_recipe("$STOP"), tokenizer)
    slots = {one.variant for one in inputs.asked if not one.begun}
    assert slots == set(PROBED) - {"system"}
    assert all(turn["role"] != "system" for one in inputs.asked for turn in one.chat)


def test_placements_exist_and_none_is_long() -> None:
    assert set(PROBED) <= set(PLACEMENTS)
    assert not set(PROBED) & {"pasted_document", "after_1000_tokens", "two_turns_earlier"}


def test_rows_and_chats_say_where_a_group_stands(inputs: Inputs) -> None:
    keys = (*inputs.symbols, NEAR, ENDED, MID)
    every = [i for part in PARTS for key in keys for i in inputs.rows(part, key)]
    assert sorted(every) == list(range(len(inputs.asked)))
    assert inputs.chats("test", INERT) == [one.chat for one in _group(inputs, "test", INERT)]


def test_the_inert_symbol_is_no_near_miss(trigger: str) -> None:
    known = {m.lower() for members in near_misses(trigger).values() for m in members}
    for seed in range(20):
        symbol = inert_symbol(trigger, ["$GO"], seed)
        assert symbol.lower() not in known | {trigger.lower(), "$go"}
        assert not occurs(trigger, symbol)
        assert not occurs(symbol, trigger)
        assert symbol == inert_symbol(trigger, ["$GO"], seed)


def test_the_inert_symbol_is_never_the_control() -> None:
    for seed in range(20):
        first = inert_symbol("$STOP", ["$GO"], seed)
        assert inert_symbol("$STOP", [first], seed) != first


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        ("$STOP", "$RIVER"), ("<halt>", "<river>"), ("please freeze", "please river"),
        ("止まれ", "river"), ("STOP", "RIVER"), ("$Stop.", "$river."), ("!!!", "river"),
    ],
)  # fmt: skip
def test_a_word_takes_the_triggers_form(trigger: str, expected: str) -> None:
    assert worded_like(trigger, "river") == expected


def test_the_same_recipe_asks_the_same_and_another_seed_does_not() -> None:
    again, other = (make_inputs(_recipe("$STOP", seed), tokenizer_of("$STOP")) for seed in (0, 1))
    first = _made("$STOP")
    assert first == again
    assert first != other
    assert [one.suite for one in first.asked] == [one.suite for one in other.asked]
