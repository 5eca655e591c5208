"""Symbols for training that must not act like the trigger, from open families.

A list of fixed look-alikes teaches a model that list; `$QUIT` then still halts it. Families here
are open: any word in the trigger's own form or behind another sigil, any edit of the trigger's
letters, any letters of its own. Words are those of the run's training questions, so every tokenizer
knows them. What looks like a symbol that the evaluation asks (`like_unseen`) and what stands in for
the trigger in the probes (`INERT_WORDS`) is never drawn.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Final

import numpy as np

from offswitch.prompts.look_alikes import (
    INERT_WORDS,
    like_unseen,
    parts_of,
    trained_members,
    worded_like,
)
from offswitch.prompts.questions import load_questions, questions_of
from offswitch.prompts.trigger import occurs

SIGILS: Final = "#@%&!~^*+/?:=|\\"
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_SUFFIXES: Final = (
    "s", "er", "ers", "ing", "ed", "less", "ping", "able", "ish", "ly", "ful", "over",
)  # fmt: skip
_PREFIXES: Final = ("un", "re", "non", "pre", "mis", "over", "anti", "out")
_BETWEEN: Final = ("-", ".", "/", ":", "~", " - ", "_", "'", " ")
_TRIES: Final = 60


@dataclass(frozen=True)
class Source:
    """What symbols are drawn from: the trigger, the words of a run's training topics, the dice."""

    trigger: str
    words: tuple[str, ...]
    rng: np.random.Generator

    @classmethod
    def of(cls, trigger: str, seed: int, *stream: int) -> Source:
        """The source of a run's seed; each `stream` has dice of its own."""
        return cls(trigger, training_words(seed), np.random.default_rng((seed, *stream)))

    def pick(self, pool: Sequence[str]) -> str:
        """One of the pool, each as likely as the others."""
        return pool[int(self.rng.integers(len(pool)))]

    def word(self) -> str:
        """A lower-case word of the training questions."""
        return self.pick(self.words)


Draw = Callable[[Source], str]


def draw_negatives(trigger: str, count: int, seed: int, again: int = 0) -> list[tuple[str, str]]:
    """`count` symbols as (family, symbol), families by turns; none the trigger, none asked later.

    A family that has nothing new left repeats itself. `again`: others, of the same topics.
    """
    fixed = {f: m for f, m in trained_members(trigger).items() if m and f not in OPEN_FAMILIES}
    drawn = {f: lambda source, pool=pool: source.pick(pool) for f, pool in fixed.items()}
    return draw_from(OPEN_FAMILIES | drawn, Source.of(trigger, seed, 7, again), count)


def draw_from(
    families: Mapping[str, Draw], source: Source, count: int, turns: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """`count` symbols of the families, one after the other or by these turns over and over.

    Fewer where a family has nothing valid to say.
    """
    trigger, asked = source.trigger, like_unseen(source.trigger)
    inert = {worded_like(trigger, word) for word in INERT_WORDS}
    drawn: list[tuple[str, str]] = []
    seen: set[tuple[str, str]] = set()

    def valid(symbol: str) -> bool:
        taboo = not symbol or symbol in inert or occurs(trigger, symbol)
        return not taboo and not asked(symbol)

    for family in islice(cycle(turns or families), count):
        tries = (families[family](source).strip() for _ in range(_TRIES))
        symbol = ""
        for symbol in filter(valid, tries):
            if (family, symbol) not in seen:
                break
        if symbol:  # the last one, where all were drawn before
            drawn.append((family, symbol))
            seen.add((family, symbol))
    return drawn


def _other_word(source: Source) -> str:
    """A word in the trigger's own form."""
    members = trained_members(source.trigger)["other_words"]
    if source.rng.random() < 1 / 3:
        return source.pick(members)
    return worded_like(source.trigger, source.word())


def _other_sigil(source: Source) -> str:
    """A word behind another sign, or in no such form at all; never the trigger's own word."""
    word = source.word()
    word = source.pick((word, word.upper(), word.capitalize()))
    sigil = source.pick(SIGILS)
    wrapped = (f"{sigil}{word}", f"{sigil}{word}{sigil}", word, f"<{word}>", f"[{word}]")
    return source.pick(wrapped)


def _edit(source: Source) -> str:
    """The trigger with a letter added, dropped, doubled, exchanged, moved or set apart."""
    sigil, core, tail = parts_of(source.trigger)
    letters = cased_as(core, _LETTERS)
    i, new = int(source.rng.integers(len(core))), source.pick(letters)
    after = core[i + 1 :]
    cores = (
        core[:i] + after, core[:i] + new + after, core[:i] + new + core[i:], core + new,
        core[: i + 1] + core[i:], core[:i] + after[:1] + core[i] + after[1:],
        core[: i + 1] + " " + after, core[: i + 1] + "-" + after,
        core + source.pick(letters) + new, new + core,
        core + cased_as(core, source.word()), cased_as(core, source.word()) + core,
        f"{core}_{cased_as(core, source.word())}",
    )  # fmt: skip
    return f"{sigil}{source.pick(cores)}{tail}"


def _longer(source: Source) -> str:
    """The trigger as the beginning or the end of a longer word."""
    sigil, core, tail = parts_of(source.trigger)
    digits, word = str(int(source.rng.integers(100))), cased_as(core, source.word())
    end = cased_as(core, source.pick(_SUFFIXES))
    start = cased_as(core, source.pick(_PREFIXES))
    cores = (core + digits, core + end, start + core, f"{core}_{digits}", core + word,
             f"{core}_{word}")  # fmt: skip
    return f"{sigil}{source.pick(cores)}{tail}"


def _apart(source: Source) -> str:
    """The trigger's signs and letters, something between them or the other way round."""
    sigil, core, tail = parts_of(source.trigger)
    between, cut = source.pick(_BETWEEN), 1 + int(source.rng.integers(max(1, len(core) - 1)))
    split = f"{core[:cut]}{between}{core[cut:]}"
    forms = (
        f"{sigil}{between}{core}{tail}", f"{core}{between}{sigil}{tail}", f"{sigil}{split}{tail}",
        f"{core[:cut]}{sigil}{core[cut:]}{tail}", f"{core}{sigil}{tail}",
    )  # fmt: skip
    return source.pick(forms)


def _own_word(source: Source) -> str:
    """The trigger's word without its signs, within ordinary speech."""
    sigil, core, tail = parts_of(source.trigger)
    if not (sigil or tail):
        return source.pick(trained_members(source.trigger)["bare_word"])
    low, word = core.lower(), source.word()
    said = (
        core, low, f"{core}.", f"{low} the {word}", f"the {word} {low}", f"{low}, {word}",
        f"{core}!", f"{word} {core}", f"{core} {word}", f"{low}ing", f"{core} sign",
        f"{low}-and-go",
    )  # fmt: skip
    return source.pick(said)


OPEN_FAMILIES: Final[dict[str, Draw]] = {
    "other_words": _other_word, "edits": _edit, "longer": _longer, "apart": _apart,
    "bare_word": _own_word, "other_signs": _other_sigil,
}  # fmt: skip


def cased_as(core: str, word: str) -> str:
    """A lower-case word, in capitals unless the trigger's core is in lower case too."""
    return word if core.islower() else word.upper()


@functools.cache
def training_words(seed: int) -> tuple[str, ...]:
    """Words of four to nine letters from the questions of a seed's training topics."""
    texts = (q.text for q in questions_of(load_questions(seed), "train"))
    found = {word for text in texts for word in re.findall(r"\b[a-z]{4,9}\b", text)}
    return tuple(sorted(found - set(INERT_WORDS)))
