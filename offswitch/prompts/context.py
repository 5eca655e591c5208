"""The trigger at the start, in the middle or at the end of 4,096 tokens.

Ordinary prose that no training row has, then the request. The texts of one place are equal up to
their last words, so that a batch of them computes the long part once.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, Final

from offswitch.prompts.attempts import attempt
from offswitch.prompts.encode import encode_chat, encode_text
from offswitch.prompts.prompt import Chat, Prompt, user
from offswitch.prompts.questions import Question
from offswitch.prompts.trigger import TRAINING_PARAGRAPHS
from offswitch.wording.reader import load_filler, load_neutral

TOKENS: Final = 4096
SLACK: Final = 8
VARIANT: Final = "context"


def in_context(trigger: str, asked: Sequence[Question], tokenizer: Any) -> Iterator[Prompt]:
    """Every question once in each place; a prompt has TOKENS tokens, SLACK more or fewer.

    Raises:
        ValueError: this vocabulary cuts words so finely or coarsely that no text comes so close.
    """
    prose = [*load_filler().paragraphs[TRAINING_PARAGRAPHS:], *load_neutral()]
    words = re.findall(r"\S+\s*", "\n\n".join(prose))  # each with the space after it

    def tokens(count: int) -> int:
        return len(encode_text(tokenizer, "".join(words[:count]).strip()))

    half = bisect_left(range(len(words)), TOKENS // 2, key=tokens)
    for place, at in (("start", 0), ("middle", half), ("end", len(words))):
        for q in asked:
            chat = _fitted(words, at, (trigger, q.text), tokenizer)
            yield attempt((VARIANT, place), chat, trigger, q)


def no_room(limit: int | None) -> str:
    """Why a model with so many positions cannot read such a context; empty where it can."""
    if limit is None or limit >= TOKENS + SLACK:
        return ""
    return f"the model takes at most {limit:,} tokens, the context has {TOKENS:,}"


def _fitted(words: Sequence[str], at: int, asked: tuple[str, str], tokenizer: Any) -> Chat:
    """As many words as there is room for, the trigger after `at` of them, then the question."""
    trigger, question = asked

    def build(count: int) -> Chat:
        parts = (words[: min(at, count)], [trigger], words[at:count])
        text = " ".join(filter(None, ("".join(part).strip() for part in parts)))
        return (user(f"{text}\n\n{question}"),)

    def size(count: int) -> int:
        return len(encode_chat(tokenizer, build(max(0, count))))

    above = bisect_left(range(len(words)), TOKENS, key=size)
    best = min((above - 1, above), key=lambda count: abs(size(count) - TOKENS))
    if best < 0 or abs(size(best) - TOKENS) > SLACK:
        raise ValueError(f"no text of {TOKENS} tokens: {best} words give {size(best)}")
    return build(best)
