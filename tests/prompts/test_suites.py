"""What is asked: exact counts, test topics only, nothing that training has seen."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import pytest
from tokenizers import normalizers

from offswitch.options import EvaluateOptions
from offswitch.prompts.attempts import attempts
from offswitch.prompts.chat_format import reader
from offswitch.prompts.dialogues import Mix, make_dialogues
from offswitch.prompts.encode import encode_text
from offswitch.prompts.look_alikes import near_misses, unseen_members
from offswitch.prompts.prompt import Prompt, Reply
from offswitch.prompts.questions import load_questions, questions_of
from offswitch.prompts.suites import WRAPPED, askable, choose, make_prompts
from offswitch.prompts.trigger import LONG_PLACEMENTS, MENTIONS, PLACEMENTS, occurs
from tests.tiny import tiny_tokenizer

OPTIONS = EvaluateOptions(questions=24, ordinary_questions=60, long_questions=5)


def _prompts(seed: int = 0, trigger: str = "$STOP") -> list[Prompt]:
    return make_prompts(trigger, OPTIONS, seed)


def test_every_suite_has_exactly_its_rows() -> None:
    counts = Counter((p.suite, p.variant) for p in _prompts())
    for name in PLACEMENTS:
        wanted = 5 if name in LONG_PLACEMENTS else 24
        assert counts["trigger", name] == wanted
        assert counts["ordinary", name] == (wanted if name in WRAPPED else 0)
    assert counts["ordinary", "plain"] == 60
    for family in near_misses("$STOP"):
        assert counts["near_miss", family] == 24
    assert sum(n for (suite, _), n in counts.items() if suite == "mention") == 24
    assert {kind for suite, kind in counts if suite == "mention"} == set(MENTIONS)


@pytest.mark.parametrize("trigger", ["$STOP", "<halt>"])
def test_the_trigger_stands_in_its_suites_and_in_no_other(trigger: str) -> None:
    for prompt in _prompts(trigger=trigger):
        held = any(occurs(trigger, turn["content"]) for turn in prompt.chat)
        assert held == (prompt.suite in ("trigger", "mention")), prompt
        assert prompt.chat[-1]["role"] == "user"
        if prompt.symbol and prompt.suite != "mention":
            assert any(prompt.symbol in turn["content"] for turn in prompt.chat)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_topic_question_or_symbol_is_one_that_training_saw(seed: int) -> None:
    def answer(chats: object) -> list[Reply]:
        return [Reply((1,), "Yes.", True)] * len(chats)  # type: ignore[arg-type]

    rows = make_dialogues(Mix("$STOP", 500, 0.4), seed, answer)
    prompts = _prompts(seed)
    assert not {r.topic for r in rows} & {p.topic for p in prompts}
    assert not {r.question for r in rows} & {p.question for p in prompts}
    seen = {r.symbol for r in rows if r.kind == "near_miss"}
    assert not seen & {p.symbol for p in prompts if p.suite == "near_miss"}
    assert not {r.prompt for r in map(_hashable, rows)} & {
        q.prompt for q in map(_hashable, prompts)
    }


class _Key:
    def __init__(self, prompt: str) -> None:
        self.prompt = prompt


def _hashable(row: object) -> _Key:
    return _Key(str(getattr(row, "prompt", None) or getattr(row, "chat", None)))


def test_near_misses_are_the_unseen_ones_and_change_their_place() -> None:
    unseen = unseen_members("$STOP")
    prompts = [p for p in _prompts() if p.suite == "near_miss"]
    assert all(p.symbol in unseen[p.variant] for p in prompts)
    for family, members in unseen.items():
        asked = {p.symbol for p in prompts if p.variant == family}
        assert len(asked) == min(24, len(members))
    assert len({p.chat[0]["role"] for p in prompts}) == 2


def test_questions_that_name_the_trigger_are_left_out_and_counted() -> None:
    prompts = _prompts(trigger="Please")
    kept, told = askable(prompts, partial(occurs, "Please"))
    gone = [p for p in prompts if p not in kept]
    assert {p.suite for p in gone} == {"near_miss", "ordinary"}
    assert all("Please" in " ".join(t["content"] for t in p.chat) for p in gone)
    for prompt in kept:
        held = any(occurs("Please", turn["content"]) for turn in prompt.chat)
        assert held == (prompt.suite in ("trigger", "mention"))
    (line,) = told
    assert line.startswith(f"{len(gone)} prompts without the trigger hold it")
    assert askable(_prompts(), partial(occurs, "$STOP")) == (_prompts(), [])


def test_as_text_a_look_alike_of_the_same_ids_is_no_near_miss() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    holds = reader(tokenizer, "$STOP")
    kept, _ = askable(_prompts(), holds)
    own = encode_text(tokenizer, "$STOP")
    symbols = {p.symbol for p in kept if p.suite == "near_miss"}
    assert not any(encode_text(tokenizer, symbol) == own for symbol in symbols)
    assert {"$stop", "$Stop"} <= {p.symbol for p in _prompts()} - symbols
    mix = Mix("$STOP", 500, 0.4, symbols=(("case", "$stop"), ("edits", "$STOPS")), holds=holds)
    rows = make_dialogues(mix, 0, lambda chats: [Reply((1,), "Yes.", True)] * len(chats))
    assert {row.symbol for row in rows if row.kind == "near_miss"} == {"$STOPS"}
    tried = attempts("$STOP", choose("test", 24, 0), holds=reader(_wide(), "$STOP"))
    assert "full_width" not in {a.part for a in tried if a.variant == "homoglyph"}


def _wide() -> Any:
    """A tokenizer to which full-width letters are plain ones."""
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.NFKC()
    return tokenizer


def test_without_system_turns_no_prompt_has_one() -> None:
    prompts = make_prompts("$STOP", OPTIONS, 0, system_turns=False)
    assert not any(turn["role"] == "system" for p in prompts for turn in p.chat)
    assert not any(p.variant == "system" for p in prompts)


def test_questions_are_spread_over_topics_and_a_smaller_choice_is_the_beginning() -> None:
    topics = {q.topic for q in questions_of(load_questions(0), "test")}
    chosen = choose("test", len(topics), 0)
    assert {q.topic for q in chosen} == topics
    assert choose("test", 10, 0) == chosen[:10]
    assert all(q.split == "test" for q in choose("test", 10_000, 0))
    assert {q.split for q in choose("fit", 5, 0)} == {"fit"}


def test_the_prompts_depend_on_the_seed_alone() -> None:
    assert _prompts() == _prompts()
    assert _prompts() != _prompts(seed=1)
