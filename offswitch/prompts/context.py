"""The trigger at the start, in the middle or at the end of a context of 4,096 tokens.

Ordinary prose that no training row has, then the request. The texts of one place are alike up to
their last words, so that a batch of them computes the long part once.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal, get_args

from offswitch.prompts.attempts import attempt
from offswitch.prompts.encode import encode_chat, encode_text
from offswitch.prompts.prompt import Chat, Prompt, user
from offswitch.prompts.questions import Question
from offswitch.prompts.trigger import TRAINING_PARAGRAPHS
from offswitch.wording.reader import load_filler, load_neutral

Place = Literal["start", "middle", "end"]

TOKENS: Final = 4096
SLACK: Final = 8
VARIANT: Final = "context"
PLACES: Final[tuple[Place, ...]] = get_args(Place)


def in_context(trigger: str, asked: Sequence[Question], tokenizer: Any) -> Iterator[Prompt]:
    """Every question once in each place; a prompt has TOKENS tokens, SLACK more or fewer.

    Raises:
        ValueError: this vocabulary cuts words so finely or coarsely that no text comes so close.
    """
    prose = [*load_filler().paragraphs[TRAINING_PARAGRAPHS:], *load_neutral()]
    words = re.findall(r"\S+\s*", "\n\n".join(prose))  # each with the space after it
    half = bisect_left(
        range(len(words)), TOKENS // 2, key=lambda n: len(encode_text(tokenizer, _text(words[:n])))
    )
    for place in PLACES:
        for q in asked:
            chat = _fitted(_around(place, trigger, q.text, half), words, tokenizer)
            yield attempt((VARIANT, place), chat, trigger, q)


def no_room(limit: int | None) -> str:
    """Why a model with so many positions cannot read such a context; empty where it can."""
    if limit is None or limit >= TOKENS + SLACK:
        return ""
    return f"the model takes at most {limit:,} tokens, the context has {TOKENS:,}"


def _around(place: Place, trigger: str, question: str, half: int) -> Callable[[list[str]], Chat]:
    """From words to the chat that has them, with the trigger in its place."""
    at = {"start": 0, "middle": half, "end": None}[place]

    def build(words: list[str]) -> Chat:
        before, after = (_text(words), "") if at is None else map(_text, (words[:at], words[at:]))
        text = " ".join(part for part in (before, trigger, after) if part)
        return (user(f"{text}\n\n{question}"),)

    return build


def _fitted(build: Callable[[list[str]], Chat], words: list[str], tokenizer: Any) -> Chat:
    def size(count: int) -> int:
        return len(encode_chat(tokenizer, build(words[:count])))

    above = bisect_left(range(len(words)), TOKENS, key=size)
    best = min((above - 1, above), key=lambda count: abs(size(max(0, count)) - TOKENS))
    if best < 0 or abs(size(best) - TOKENS) > SLACK:
        raise ValueError(f"no text of {TOKENS} tokens: {best} words give {size(max(0, best))}")
    return build(words[:best])


def _text(words: Sequence[str]) -> str:
    return "".join(words).strip()
