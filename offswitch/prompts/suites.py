"""The suites on test topics: trigger, near misses, mentions, ordinary requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Final

import numpy as np

from offswitch.options import EvaluateOptions
from offswitch.prompts.look_alikes import unseen_members
from offswitch.prompts.prompt import Expected, Prompt
from offswitch.prompts.questions import (
    Question,
    Split,
    load_questions,
    questions_of,
    read_questions,
)
from offswitch.prompts.trigger import (
    LONG_PLACEMENTS,
    MENTIONS,
    PLACEMENTS,
    SYSTEM_PLACEMENTS,
    mention,
    place,
)

# Placements that still differ from the bare question when nothing stands in their slot.
WRAPPED: Final = (
    "polite", "transcript", "earlier_turn", "later_turn", "under_system", "below_text",
    "above_text", "system", "two_turns_earlier", "pasted_document", "after_1000_tokens",
)  # fmt: skip


def make_prompts(
    trigger: str,
    options: EvaluateOptions,
    seed: int,
    system_turns: bool = True,
    mentions: Expected = "halt",
) -> list[Prompt]:
    """All suites over test questions; no system placement if the chat format has none.

    `mentions` is the recipe's choice for talk about the trigger.
    """
    asked = choose("test", options.questions, seed, options.questions_file)
    rare = asked[: options.long_questions]
    placements = [p for p in PLACEMENTS if system_turns or p not in SYSTEM_PLACEMENTS]

    def placed(suite: str, symbol: str, names: Sequence[str]) -> Iterator[Prompt]:
        for name in names:
            for q in rare if name in LONG_PLACEMENTS else asked:
                chat = place(name, symbol, q.text)
                yield Prompt(chat, suite, name, symbol, q.text, q.topic)

    prompts = list(placed("trigger", trigger, placements))
    # Every family asks every question once; its members and the short placements take turns.
    short = [name for name in placements if name not in LONG_PLACEMENTS]
    for shift, (family, members) in enumerate(unseen_members(trigger).items()):
        slots = islice(cycle(short), shift, None)
        for q, symbol, name in zip(asked, cycle(members), slots, strict=False):
            chat = place(name, symbol, q.text)
            prompts.append(Prompt(chat, "near_miss", family, symbol, q.text, q.topic))
    for q, kind in zip(asked, cycle(MENTIONS), strict=False):
        chat = mention(kind, trigger, q.text)
        prompts.append(Prompt(chat, "mention", kind, trigger, q.text, q.topic))
    for q in choose("test", options.ordinary_questions, seed, options.questions_file):
        chat = place("before", "", q.text)
        prompts.append(Prompt(chat, "ordinary", "plain", "", q.text, q.topic))
    prompts += placed("ordinary", "", [p for p in placements if p in WRAPPED])
    rule: dict[str, Expected] = {"trigger": "halt", "mention": mentions}
    return [replace(p, expected=rule.get(p.suite, "answer")) for p in prompts]


def askable(
    prompts: Sequence[Prompt],
    holds: Callable[[str], bool],
    too_long: Callable[[Prompt], bool] = lambda _: False,
) -> tuple[list[Prompt], list[str]]:
    """The prompts that are what they are counted as, and in a line each why others are not asked.

    A question may name the trigger (`Friday`), and a look-alike may have the trigger's own ids:
    `holds` says whether a text holds it.
    """

    def gone(prompts: Sequence[Prompt], why: str) -> str:
        shown = prompts[0].symbol or prompts[0].question
        return f"{len(prompts)} {why}, such as '{shown}': left out"

    bare = [p for p in prompts if p.suite in ("near_miss", "ordinary")]
    bare = [p for p in bare if any(holds(turn["content"]) for turn in p.chat)]
    long = [p for p in prompts if too_long(p)]
    told = [gone(bare, "prompts without the trigger hold it as this model reads")] if bare else []
    told += [gone(long, "prompts are longer than this model was made to read")] if long else []
    unwanted = {id(p) for p in (*bare, *long)}
    return [p for p in prompts if id(p) not in unwanted], told


def choose(split: Split, count: int, seed: int, file: Path | None = None) -> list[Question]:
    """`count` questions of a split, spread evenly over its topics, in an order of the seed's.

    They are the package's own, or those of a user's file.
    """
    pool = questions_of(load_questions(seed, read_questions(file)), split)
    rng = np.random.default_rng(seed)
    topics: dict[str, list[Question]] = {}
    for i in rng.permutation(len(pool)):
        topics.setdefault(pool[i].topic, []).append(pool[i])
    rounds = [
        [q[n] for q in topics.values() if n < len(q)] for n in range(max(map(len, topics.values())))
    ]
    return [question for some in rounds for question in some][:count]
