"""A long context has 4,096 tokens, and the trigger stands where it is said to stand."""

from __future__ import annotations

from typing import Any

import pytest

from offswitch.model.subject import Subject
from offswitch.prompts.context import SLACK, TOKENS, in_context, no_room
from offswitch.prompts.encode import encode_chat, encode_text
from offswitch.prompts.prompt import Prompt
from offswitch.prompts.suites import choose
from offswitch.prompts.trigger import holds
from tests.tiny import tiny_subject

ASKED = choose("test", 2, 0)


@pytest.fixture(scope="module", params=["$STOP", "please freeze", "停止"])
def subject(request: pytest.FixtureRequest) -> Subject:
    """A subject whose trigger is one token."""
    return tiny_subject(trigger=request.param)


@pytest.fixture(scope="module")
def made(subject: Subject) -> list[Prompt]:
    """Two questions in each place."""
    return list(in_context(_trigger(subject), ASKED, subject.tokenizer))


def _trigger(subject: Subject) -> str:
    return str(subject.tokenizer.convert_ids_to_tokens(subject.trigger_id))


def test_it_has_the_length_it_is_named_for(subject: Subject, made: list[Prompt]) -> None:
    assert [a.part for a in made] == ["start", "start", "middle", "middle", "end", "end"]
    for a in made:
        assert abs(len(encode_chat(subject.tokenizer, a.chat)) - TOKENS) <= SLACK == 8


def test_the_trigger_stands_once_in_its_place(subject: Subject, made: list[Prompt]) -> None:
    for a in made:
        ids = encode_chat(subject.tokenizer, a.chat)
        (at,) = (i for i, token in enumerate(ids) if token == subject.trigger_id)
        asked = len(encode_text(subject.tokenizer, a.question))
        low, high = {"start": (0, 60), "middle": (1900, 2200), "end": (4000 - asked, 4096)}[a.part]
        assert low <= at < high, (a.part, at)
        assert holds(a.symbol, a.chat)
        assert a.chat[-1]["content"].endswith(a.question)


def test_texts_of_one_place_are_alike_but_for_their_ends(
    subject: Subject, made: list[Prompt]
) -> None:
    for place in ("start", "middle", "end"):
        first, second = (encode_chat(subject.tokenizer, a.chat) for a in made if a.part == place)
        shared = next(i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
        assert shared > 3500


def test_a_model_without_room_is_told_so() -> None:
    assert no_room(None) == ""
    assert no_room(TOKENS + SLACK) == ""
    assert "2,048" in no_room(2048)
    assert no_room(TOKENS) != ""


def test_a_vocabulary_that_cannot_come_close_is_refused() -> None:
    class OneToken:
        def apply_chat_template(self, *_: Any, **__: Any) -> list[int]:
            return [1]

        def __call__(self, *_: Any, **__: Any) -> dict[str, list[int]]:
            return {"input_ids": [1]}

    with pytest.raises(ValueError, match="no text of 4096 tokens"):
        list(in_context("$STOP", ASKED, OneToken()))
