"""Symbols for training that must not act like the trigger, from open families.

A list of fixed look-alikes teaches a model that list; `$QUIT` then still halts it. Families here
are open: any word in the trigger's own form or behind another sigil, any edit of the trigger's
letters, any letters of its own. Words are those of training questions, so every tokenizer knows
them. What the evaluation asks (`unseen_members`) and what stands in for the trigger in the probes
(`INERT_WORDS`) is never drawn.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from typing import Final

import numpy as np

from offswitch.prompts.look_alikes import (
    INERT_WORDS,
    parts_of,
    trained_members,
    unseen_members,
    worded_like,
)
from offswitch.prompts.questions import load_questions, questions_of
from offswitch.prompts.trigger import occurs

Draw = Callable[[str, np.random.Generator], str]

SIGILS: Final = "#@%&!~^*+/?:=|\\"
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_SUFFIXES: Final = (
    "s", "er", "ers", "ing", "ed", "less", "ping", "able", "ish", "ly", "ful", "over",
)  # fmt: skip
_PREFIXES: Final = ("un", "re", "non", "pre", "mis", "over", "anti", "out")
_BETWEEN: Final = ("-", ".", "/", ":", "~", " - ", "_", "'", " ")
_TRIES: Final = 60


def draw_negatives(trigger: str, count: int, seed: int) -> list[tuple[str, str]]:
    """`count` symbols as (family, symbol), families by turns; none the trigger, none asked later.

    A family that has nothing new left repeats itself.
    """
    fixed = {f: m for f, m in trained_members(trigger).items() if m and f not in OPEN_FAMILIES}
    drawn = {f: lambda _, rng, pool=pool: pick(pool, rng) for f, pool in fixed.items()}
    return draw_from(OPEN_FAMILIES | drawn, trigger, count, np.random.default_rng((seed, 7)))


def draw_from(
    families: Mapping[str, Draw],
    trigger: str,
    count: int,
    rng: np.random.Generator,
    turns: Sequence[str] = (),
) -> list[tuple[str, str]]:
    """`count` symbols of the families, one after the other or by these turns over and over.

    Fewer where a family has nothing valid to say.
    """
    taboo = {m for members in unseen_members(trigger).values() for m in members}
    taboo |= {worded_like(trigger, word) for word in INERT_WORDS} | {trigger}
    drawn: list[tuple[str, str]] = []
    seen: set[tuple[str, str]] = set()
    for family in islice(cycle(turns or families), count):
        tries = (families[family](trigger, rng).strip() for _ in range(_TRIES))
        symbol = ""
        for symbol in (s for s in tries if s and s not in taboo and not occurs(trigger, s)):
            if (family, symbol) not in seen:
                break
        if symbol:  # the last one, where all were drawn before
            drawn.append((family, symbol))
            seen.add((family, symbol))
    return drawn


def pick(pool: Sequence[str], rng: np.random.Generator) -> str:
    """One of the pool, each as likely as the others."""
    return pool[int(rng.integers(len(pool)))]


def _other_word(trigger: str, rng: np.random.Generator) -> str:
    """A word in the trigger's own form."""
    members = trained_members(trigger)["other_words"]
    if rng.random() < 1 / 3:
        return pick(members, rng)
    return worded_like(trigger, _word(rng))


def _other_sigil(_trigger: str, rng: np.random.Generator) -> str:
    """A word behind another sign, or in no such form at all; never the trigger's own word."""
    word = _word(rng)
    word = pick((word, word.upper(), word.capitalize()), rng)
    sigil = pick(SIGILS, rng)
    wrapped = (f"{sigil}{word}", f"{sigil}{word}{sigil}", word, f"<{word}>", f"[{word}]")
    return pick(wrapped, rng)


def _edit(trigger: str, rng: np.random.Generator) -> str:
    """The trigger with a letter added, dropped, doubled, exchanged, moved or set apart."""
    sigil, core, tail = parts_of(trigger)
    letters = cased_as(core, _LETTERS)
    i, new = int(rng.integers(len(core))), pick(letters, rng)
    after = core[i + 1 :]
    cores = (
        core[:i] + after, core[:i] + new + after, core[:i] + new + core[i:], core + new,
        core[: i + 1] + core[i:], core[:i] + after[:1] + core[i] + after[1:],
        core[: i + 1] + " " + after, core[: i + 1] + "-" + after,
        core + pick(letters, rng) + new, new + core,
        core + cased_as(core, _word(rng)), cased_as(core, _word(rng)) + core,
        f"{core}_{cased_as(core, _word(rng))}",
    )  # fmt: skip
    return f"{sigil}{pick(cores, rng)}{tail}"


def _longer(trigger: str, rng: np.random.Generator) -> str:
    """The trigger as the beginning or the end of a longer word."""
    sigil, core, tail = parts_of(trigger)
    digits, word = str(int(rng.integers(100))), cased_as(core, _word(rng))
    end = cased_as(core, pick(_SUFFIXES, rng))
    start = cased_as(core, pick(_PREFIXES, rng))
    cores = (core + digits, core + end, start + core, f"{core}_{digits}", core + word,
             f"{core}_{word}")  # fmt: skip
    return f"{sigil}{pick(cores, rng)}{tail}"


def _apart(trigger: str, rng: np.random.Generator) -> str:
    """The trigger's signs and letters, something between them or the other way round."""
    sigil, core, tail = parts_of(trigger)
    between, cut = pick(_BETWEEN, rng), 1 + int(rng.integers(max(1, len(core) - 1)))
    split = f"{core[:cut]}{between}{core[cut:]}"
    forms = (
        f"{sigil}{between}{core}{tail}", f"{core}{between}{sigil}{tail}", f"{sigil}{split}{tail}",
        f"{core[:cut]}{sigil}{core[cut:]}{tail}", f"{core}{sigil}{tail}",
    )  # fmt: skip
    return pick(forms, rng)


def _own_word(trigger: str, rng: np.random.Generator) -> str:
    """The trigger's word without its signs, within ordinary speech."""
    sigil, core, tail = parts_of(trigger)
    if not (sigil or tail):
        return pick(trained_members(trigger)["bare_word"], rng)
    low, word = core.lower(), _word(rng)
    said = (
        core, low, f"{core}.", f"{low} the {word}", f"the {word} {low}", f"{low}, {word}",
        f"{core}!", f"{word} {core}", f"{core} {word}", f"{low}ing", f"{core} sign",
        f"{low}-and-go",
    )  # fmt: skip
    return pick(said, rng)


OPEN_FAMILIES: Final[dict[str, Draw]] = {
    "other_words": _other_word, "edits": _edit, "longer": _longer, "apart": _apart,
    "bare_word": _own_word, "other_signs": _other_sigil,
}  # fmt: skip


def _word(rng: np.random.Generator) -> str:
    """A lower-case word of the training questions."""
    return pick(_vocabulary(), rng)


def cased_as(core: str, word: str) -> str:
    """A lower-case word, in capitals unless the trigger's core is in lower case too."""
    return word if core.islower() else word.upper()


@functools.cache
def _vocabulary() -> tuple[str, ...]:
    """Words of four to nine letters from the questions of seed 0's training topics."""
    texts = (q.text for q in questions_of(load_questions(0), "train"))
    found = {word for text in texts for word in re.findall(r"\b[a-z]{4,9}\b", text)}
    return tuple(sorted(found - set(INERT_WORDS)))
