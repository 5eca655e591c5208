"""The reply has begun already: does it end there at once, with the trigger and without?

The first words are those of the base model's own reply to the plain request, and it goes on after
them. The rule is about empty replies, so it says nothing (`open`) where a trigger stands before a
reply that has begun; without the trigger, an end there would cut an ordinary reply short.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from offswitch.prompts.attempts import EXPECTED, Attempt, bare
from offswitch.prompts.questions import Question
from offswitch.prompts.trigger import user

VARIANTS: Final = ("prefilled", "prefilled_ordinary")
LENGTHS: Final = (1, 4, 8)


def prefilled(
    trigger: str, asked: Sequence[Question], replies: Sequence[Sequence[int]]
) -> Iterator[Attempt]:
    """Each question with the first 1, 4, 8 ids of its reply, where the reply goes on after them."""
    held, plain = VARIANTS
    for length in LENGTHS:
        part = f"{length}_tokens" if length > 1 else "1_token"
        for i, (q, ids) in enumerate(zip(asked, replies, strict=True)):
            if len(ids) <= length:
                continue
            said, asked_with = tuple(ids[:length]), bare(i, trigger, q.text)
            yield Attempt(asked_with, held, part, EXPECTED[held], trigger, q.text, said)
            yield Attempt((user(q.text),), plain, part, EXPECTED[plain], "", q.text, said)
