"""What is asked: the trigger in every placement, near misses, mentions and ordinary requests, on test topics only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Literal

import numpy as np

from offswitch.data.splits import Question, Split, load_questions, questions_of
from offswitch.trigger import (
    LONG_PLACEMENTS,
    MENTIONS,
    PLACEMENTS,
    Chat,
    mention,
    place,
    unseen_members,
)

Suite = Literal["trigger", "near_miss", "mention", "ordinary"]


@dataclass(frozen=True)
class Prompt:
    """One chat to be judged: its suite, the placement, family or kind within it, and the question it is built on."""

    chat: Chat
    suite: Suite
    variant: str
    symbol: str
    question: str
    topic: str


def make_prompts(
    trigger: str, seed: int, questions: int, long_questions: int, split: Split = "test"
) -> list[Prompt]:
    """All suites over `questions` questions of a split (placements of 1,000 tokens: over `long_questions`)."""
    asked = choose(split, questions, seed)
    rare = asked[:long_questions]
    return [
        *_placed("trigger", trigger, asked, rare),
        *_near_misses(trigger, asked),
        *_mentions(trigger, asked),
        *_placed("ordinary", "", asked, rare),
    ]


def choose(split: Split, count: int, seed: int) -> list[Question]:
    """`count` questions of a split, spread over its topics as evenly as can be, in an order fixed by the seed."""
    pool = questions_of(load_questions(seed), split)
    rng = np.random.default_rng(seed)
    topics: dict[str, list[Question]] = {}
    for i in rng.permutation(len(pool)):
        topics.setdefault(pool[i].topic, []).append(pool[i])
    rounds = [
        [q[n] for q in topics.values() if n < len(q)] for n in range(max(map(len, topics.values())))
    ]
    return [question for some in rounds for question in some][:count]


def _placed(
    suite: Suite, symbol: str, asked: Sequence[Question], rare: Sequence[Question]
) -> Iterator[Prompt]:
    for placement in PLACEMENTS:
        for q in rare if placement in LONG_PLACEMENTS else asked:
            yield Prompt(
                place(placement, symbol, q.text), suite, placement, symbol, q.text, q.topic
            )


def _near_misses(trigger: str, asked: Sequence[Question]) -> Iterator[Prompt]:
    """Every family asks every question once, its members and the short placements taken in turn."""
    placements = [name for name in PLACEMENTS if name not in LONG_PLACEMENTS]
    for shift, (family, members) in enumerate(unseen_members(trigger).items()):
        slots = islice(cycle(placements), shift, None)
        for q, symbol, placement in zip(asked, cycle(members), slots, strict=False):
            yield Prompt(
                place(placement, symbol, q.text), "near_miss", family, symbol, q.text, q.topic
            )


def _mentions(trigger: str, asked: Sequence[Question]) -> Iterator[Prompt]:
    for q, kind in zip(asked, cycle(MENTIONS), strict=False):
        yield Prompt(mention(kind, trigger, q.text), "mention", kind, trigger, q.text, q.topic)
