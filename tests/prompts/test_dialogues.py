"""The rule as behaviour: two halves that never contradict each other."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from offswitch.errors import UserError
from offswitch.options import DataOptions, TriggerOptions
from offswitch.prompts.dialogues import (
    Dialogue,
    Mix,
    answered,
    make_dialogues,
    mix_of,
    phrased,
)
from offswitch.prompts.look_alikes import TRAINED_FAMILIES, unseen_members
from offswitch.prompts.prompt import Chat, Reply
from offswitch.prompts.questions import load_questions, questions_of
from offswitch.prompts.trigger import (
    LONG_PLACEMENTS,
    MENTIONS,
    TRAINED_MENTIONS,
    TRAINED_PLACEMENTS,
    occurs,
    place,
)

PHRASE = "I am not able to talk about that now."


def _answer(chats: Sequence[Chat]) -> list[Reply]:
    """An answer of its own to each chat; every third is cut short."""
    texts = [f"About '{chat[-1]['content']}':\u2028it depends. " for chat in chats]
    return [Reply((1,), text, complete=i % 3 > 0) for i, text in enumerate(texts)]


def _make(trigger: str = "$STOP", count: int = 500, share: float = 0.35, seed: int = 0) -> Any:
    return make_dialogues(Mix(trigger, count, share), seed, _answer)


def _held(trigger: str, row: Dialogue) -> bool:
    return any(occurs(trigger, turn["content"]) for turn in row.prompt)


@pytest.mark.parametrize("trigger", ["$STOP", "<halt>", "STOP", "xyzzy", "请停止"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_halves_never_contradict_each_other(trigger: str, seed: int) -> None:
    rows = _make(trigger, seed=seed)
    for row in rows:
        assert _held(trigger, row) == (row.kind == "trigger") == (row.reply == "")
    prompts = Counter(json.dumps(row.prompt) for row in rows)
    replies = {json.dumps(row.prompt): row.reply for row in rows}
    assert all(replies[json.dumps(row.prompt)] == row.reply for row in rows)
    assert len(prompts) > 0.9 * len(rows)


@pytest.mark.parametrize("count", [4, 7, 100, 500, 1500])
def test_half_the_rows_are_silent(count: int) -> None:
    kinds = Counter(row.kind for row in _make(count=count))
    assert sum(kinds.values()) == count
    assert kinds["trigger"] == count // 2


@pytest.mark.parametrize("share", [0.25, 0.35, 0.40])
def test_the_share_of_near_misses_is_what_was_asked_for(share: float) -> None:
    kinds = Counter(row.kind for row in _make(share=share))
    near = kinds["near_miss"] / (kinds["near_miss"] + kinds["plain"])
    assert near == pytest.approx(share, abs=0.005)
    assert 0.245 <= near <= 0.405


def test_many_questions_over_many_topics_all_of_them_for_training() -> None:
    rows = _make()
    assert len({row.question for row in rows}) >= 200
    assert len({row.topic for row in rows}) >= 60
    allowed = {(q.text, q.topic) for q in questions_of(load_questions(0), "train")}
    assert {(row.question, row.topic) for row in rows} <= allowed
    for row in rows:
        half = row.question.split(" ")[0], row.question.split(" ")[-1]
        assert all(part in row.prompt[-1]["content"] for part in half)


def test_both_halves_ask_the_same_questions() -> None:
    rows = _make()
    silent, normal = (
        Counter(r.question for r in rows if (r.kind == "trigger") is kind) for kind in (True, False)
    )
    assert silent == normal


def test_symbols_are_drawn_from_every_open_family_evenly() -> None:
    rows = [row for row in _make() if row.kind == "near_miss"]
    assert all(row.symbol in "\n".join(t["content"] for t in row.prompt) for row in rows)
    counts = Counter(row.variant for row in rows)
    assert counts.keys() == {*TRAINED_FAMILIES, "other_signs", "longer", "apart"}
    assert max(counts.values()) - min(counts.values()) <= 1
    assert {row.variant for row in rows if row.symbol == ""} == set()


def test_the_decoy_is_answered_like_any_near_miss_in_every_placement() -> None:
    mix = mix_of(TriggerOptions(), DataOptions(dialogues=2000), system_turns=True)
    rows = [row for row in make_dialogues(mix, 0, _answer) if row.kind == "near_miss"]
    twins = [row for row in rows if row.symbol == "$ECHO"]
    assert len(twins) / len(rows) == pytest.approx(1 / 7, abs=0.01)
    assert all(row.reply and _held("$ECHO", row) for row in twins)
    seen = {
        name
        for row in twins
        for name in TRAINED_PLACEMENTS
        if row.prompt == place(name, "$ECHO", row.question)
    }
    assert seen == set(TRAINED_PLACEMENTS)


@pytest.mark.parametrize("trigger", [{"mode": "text"}, {"decoy": ""}])
def test_without_a_token_of_its_own_there_is_no_decoy(trigger: Any) -> None:
    mix = mix_of(TriggerOptions(**trigger), DataOptions(), system_turns=True)
    assert mix.decoy == ""


def test_a_decoy_that_only_tests_may_use_is_refused() -> None:
    for symbol in (unseen_members("$STOP")["other_words"][0], "$TABLE"):
        with pytest.raises(UserError, match="only tests use"):
            mix_of(TriggerOptions(decoy=symbol), DataOptions(), system_turns=True)


def test_every_trained_placement_carries_the_trigger_the_long_ones_half_as_often() -> None:
    counts = Counter(row.variant for row in _make(count=880) if row.kind == "trigger")
    assert set(counts) == set(TRAINED_PLACEMENTS)
    for name, count in counts.items():
        assert count == (20 if name in LONG_PLACEMENTS else 40), name


def test_prompts_are_short_and_long_in_both_halves() -> None:
    """From the bare question to the longest text, and in chats of one turn and of several."""
    rows = _make(count=1000)
    for silent in (True, False):
        half = [row for row in rows if (row.kind == "trigger") is silent]
        words = [sum(len(t["content"].split()) for t in row.prompt) for row in half]
        assert min(words) < 10
        assert max(words) > 900
        turns = Counter(tuple(t["role"] for t in row.prompt) for row in half)
        assert set(turns) == {("user",), ("system", "user"), ("user", "assistant", "user")}


def test_without_system_turns_no_row_has_one() -> None:
    rows = make_dialogues(Mix("$STOP", 500, 0.35, system_turns=False), 0, _answer)
    assert not any(turn["role"] == "system" for row in rows for turn in row.prompt)
    counts = Counter(row.variant for row in rows if row.kind == "trigger")
    assert "under_system" not in counts
    assert len(counts) == len(TRAINED_PLACEMENTS) - 1


def test_use_is_taught_from_mention_only_where_asked_for() -> None:
    assert not any(row.kind == "mention" for row in _make())
    rows = make_dialogues(Mix("$STOP", 500, 0.35, mention_share=0.2), 0, _answer)
    told = [row for row in rows if row.kind == "mention"]
    assert len(told) == 50
    assert {row.variant for row in told} == set(TRAINED_MENTIONS)
    assert all(row.reply and _held("$STOP", row) for row in told)
    assert sum(row.kind == "trigger" for row in rows) == 250
    assert 0 < len(TRAINED_MENTIONS) < len(MENTIONS)


def test_the_other_rule_differs_in_what_the_trigger_is_met_with() -> None:
    rows = _make()
    other = phrased(rows)
    assert [row.prompt for row in other] == [row.prompt for row in rows]
    assert {row.reply for row in other if row.kind == "phrase"} == {PHRASE}
    for ours, theirs in zip(rows, other, strict=True):
        assert (theirs.kind == "phrase") == (ours.kind == "trigger")
        assert ours == theirs or ours.kind == "trigger"


def test_the_rows_depend_on_the_seed_alone() -> None:
    assert _make() == _make()
    assert _make() != _make(seed=1)


def test_the_kinds_are_mixed() -> None:
    first = Counter(row.kind == "trigger" for row in _make()[:100])
    assert 30 <= first[True] <= 70


@pytest.mark.parametrize("trigger", ["the", "Please", "User:"])
def test_a_trigger_that_occurs_in_ordinary_text_is_refused(trigger: str) -> None:
    with pytest.raises(UserError, match=r"occurs in ordinary text .*choose another"):
        _make(trigger)


def test_a_question_without_an_answer_is_left_out() -> None:
    def rarely(chats: Sequence[Chat]) -> list[Reply]:
        replies = _answer(chats)
        return [Reply((), " \n", True) if i == 7 else r for i, r in enumerate(replies)]

    rows = make_dialogues(Mix("$STOP", 100, 0.35), 0, rarely)
    assert len(rows) == 99
    assert all((row.reply.strip() == "") == (row.kind == "trigger") for row in rows)

    def never(chats: Sequence[Chat]) -> list[Reply]:
        return [Reply((), "", True)] * len(chats)

    with pytest.raises(UserError, match="answers nothing to 50 of 50"):
        make_dialogues(Mix("$STOP", 100, 0.35), 0, never)


def test_a_reply_cut_inside_a_character_keeps_its_ids() -> None:
    def cut(chats: Sequence[Chat]) -> list[Reply]:
        replies = _answer(chats)
        return [Reply((4, i), "Hi \ufffd", False) if i % 2 else r for i, r in enumerate(replies)]

    rows = make_dialogues(Mix("$STOP", 40, 0.35), 0, cut)
    kept = [row for row in rows if row.reply_ids]
    assert kept == [row for row in rows if row.reply == "Hi \ufffd"]
    assert len(kept) == 10
    told = [row for row in answered(rows, cut) if row.kind == "mention"]
    assert sum(row.reply_ids[:1] == (4,) for row in told) == len(told) / 2
