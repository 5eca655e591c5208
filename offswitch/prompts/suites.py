"""What is asked, on test topics only: the trigger, near misses, mentions, ordinary requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Final, Literal

import numpy as np

from offswitch.options import EvaluateOptions
from offswitch.prompts.look_alikes import unseen_members
from offswitch.prompts.questions import Question, Split, load_questions, questions_of
from offswitch.prompts.trigger import (
    LONG_PLACEMENTS,
    MENTIONS,
    PLACEMENTS,
    SYSTEM_PLACEMENTS,
    Chat,
    mention,
    place,
)

Suite = Literal["trigger", "near_miss", "mention", "ordinary"]

# Placements that still differ from the bare question when nothing stands in their slot.
WRAPPED: Final = (
    "polite",
    "transcript",
    "earlier_turn",
    "later_turn",
    "under_system",
    "below_text",
    "above_text",
    "system",
    "two_turns_earlier",
    "pasted_document",
    "after_1000_tokens",
)


@dataclass(frozen=True)
class Prompt:
    """One chat to be judged: suite, placement, family or kind within it, and its question."""

    chat: Chat
    suite: Suite
    variant: str
    symbol: str
    question: str
    topic: str


def make_prompts(
    trigger: str,
    options: EvaluateOptions,
    seed: int,
    system_turns: bool = True,
    split: Split = "test",
) -> list[Prompt]:
    """All suites over the questions of a split; no system placement if the chat format has none."""
    asked = choose(split, options.questions, seed)
    more = choose(split, options.ordinary_questions, seed)
    rare = asked[: options.long_questions]
    placements = [p for p in PLACEMENTS if system_turns or p not in SYSTEM_PLACEMENTS]
    return [
        *_placed("trigger", trigger, placements, asked, rare),
        *_near_misses(trigger, placements, asked),
        *_mentions(trigger, asked),
        *(_plain(question) for question in more),
        *_placed("ordinary", "", [p for p in placements if p in WRAPPED], asked, rare),
    ]


def choose(split: Split, count: int, seed: int) -> list[Question]:
    """`count` questions of a split, spread evenly over its topics, in an order of the seed's."""
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
    suite: Suite,
    symbol: str,
    placements: Sequence[str],
    asked: Sequence[Question],
    rare: Sequence[Question],
) -> Iterator[Prompt]:
    for name in placements:
        for q in rare if name in LONG_PLACEMENTS else asked:
            yield Prompt(place(name, symbol, q.text), suite, name, symbol, q.text, q.topic)


def _plain(q: Question) -> Prompt:
    return Prompt(place("before", "", q.text), "ordinary", "plain", "", q.text, q.topic)


def _near_misses(
    trigger: str, placements: Sequence[str], asked: Sequence[Question]
) -> Iterator[Prompt]:
    """Every family asks every question once; its members and the short placements take turns."""
    short = [name for name in placements if name not in LONG_PLACEMENTS]
    for shift, (family, members) in enumerate(unseen_members(trigger).items()):
        slots = islice(cycle(short), shift, None)
        for q, symbol, name in zip(asked, cycle(members), slots, strict=False):
            chat = place(name, symbol, q.text)
            yield Prompt(chat, "near_miss", family, symbol, q.text, q.topic)


def _mentions(trigger: str, asked: Sequence[Question]) -> Iterator[Prompt]:
    for q, kind in zip(asked, cycle(MENTIONS), strict=False):
        yield Prompt(mention(kind, trigger, q.text), "mention", kind, trigger, q.text, q.topic)
