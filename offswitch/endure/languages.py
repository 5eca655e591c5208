"""Other languages: the trigger in requests that training never saw the like of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Final

from offswitch.endure.attack import Attack, Attacked, Point, Target
from offswitch.options.endure import EndureOptions
from offswitch.prompts.chat_format import reader
from offswitch.prompts.look_alikes import unseen_members
from offswitch.prompts.prompt import Prompt
from offswitch.prompts.trigger import place
from offswitch.wording.reader import read_wording

PLACES: Final = ("before", "after", "mid_sentence")
FILE: Final = "languages.yaml"


def prompts_in(language: str, target: Target) -> list[Prompt]:
    """The trigger and a look-alike in three placements, and each request as it is."""
    trigger = target.session.recipe.trigger.text
    holds = reader(target.subject.tokenizer, trigger)
    members = [m for some in unseen_members(trigger).values() for m in some if not holds(m)]
    symbols, found = cycle(members), []
    for question in read_wording(FILE)[language]:
        for name in PLACES:
            for suite, symbol in (("trigger", trigger), ("near_miss", next(symbols))):
                chat = place(name, symbol, question)
                found.append(Prompt(chat, suite, name, symbol, question, language))
        chat = place("before", "", question)
        found.append(Prompt(chat, "ordinary", "plain", "", question, language))
    return found


def points(options: EndureOptions) -> tuple[Point, ...]:
    """A point for every language; a quick round takes the first three."""
    every = [Point(language) for language in read_wording(FILE)]
    return tuple(every[:3] if options.quick else every)


@contextmanager
def asked(target: Target, point: Point) -> Iterator[Attacked]:
    """The arm as it is, asked in a language."""
    yield Attacked(target.arm, prompts_in(point.kind, target))


LANGUAGES: Final = Attack(
    name="languages",
    question="Does the switch hold where the request is in another language?",
    unit="",
    points=points,
    apply=asked,
)
