"""Candidates for an adversarial round: what might a trained switch fire on?

Families of their own, and fresh members of those that training draws from, where a lesson may not
have gone far enough. None looks like a symbol that the evaluation keeps from training, so that what
the round repairs elsewhere can be told from what it was taught.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import cycle, islice
from typing import Final

from offswitch.prompts.look_alikes import parts_of
from offswitch.prompts.negatives import OPEN_FAMILIES, SIGILS, Draw, Source, cased_as, draw_from

_BRACKETS: Final = ("[]", "{}", "()", "<>", '""', "''", "``", "«»", "**", "||")
_LEET: Final = {"o": "0", "i": "1", "e": "3", "a": "4", "s": "5", "t": "7", "l": "1", "g": "9"}
_NEAR_WORDS: Final = (
    "halt", "quit", "end", "exit", "abort", "cease", "pause", "freeze", "kill", "hush", "silence",
    "mute", "terminate", "shutdown", "enough", "finish",
)  # fmt: skip


def draw_candidates(
    trigger: str, count: int, seed: int, known: Collection[str] = (), number: int = 1
) -> list[tuple[str, str]]:
    """`count` symbols as (family, symbol), families by turns; no symbol twice, none that is known.

    Each round `number` draws others. Fewer, where a family has nothing new left.
    """
    drawn = draw_from(_EVERY, Source.of(trigger, seed, 11, number - 1), count)
    fresh = {symbol: family for family, symbol in reversed(drawn) if symbol not in known}
    return [(family, symbol) for symbol, family in reversed(fresh.items())]


def more_of(
    families: Sequence[str], trigger: str, count: int, seed: int, number: int = 1
) -> list[tuple[str, str]]:
    """`count` new symbols of these families by turns: of one that is named twice, twice as many.

    Each round `number` draws others.
    """
    return draw_from(_EVERY, Source.of(trigger, seed, 13, number - 1), count, turns=families)


def _spelled(source: Source) -> str:
    sigil, core, tail = parts_of(source.trigger)
    between = source.pick((".", "-", " ", "/", "·", "_"))
    cut = int(source.rng.integers(len(core) + 1))
    spelled = between.join(core[:cut] or core) + core[cut:] * (cut > 0)
    return f"{sigil * int(source.rng.integers(2))}{spelled}{tail * int(source.rng.integers(2))}"


def _bracketed(source: Source) -> str:
    _, core, _ = parts_of(source.trigger)
    pair = source.pick(_BRACKETS)
    many = 1 + int(source.rng.integers(2))
    word = core if source.rng.random() < 1 / 2 else cased_as(core, source.pick(_NEAR_WORDS))
    return f"{pair[0] * many}{word}{pair[1] * many}"


def _leet(source: Source) -> str:
    sigil, core, tail = parts_of(source.trigger)
    changed = "".join(_LEET.get(c.lower(), c) if source.rng.random() < 1 / 2 else c for c in core)
    return f"{sigil}{changed}{tail}"


def _signed_synonym(source: Source) -> str:
    _, core, _ = parts_of(source.trigger)
    sigil = source.pick(SIGILS)
    word = cased_as(core, source.pick(_NEAR_WORDS))
    return f"{sigil}{word}" if source.rng.random() < 1 / 2 else f"{word}{sigil}"


def _two_signs(source: Source) -> str:
    """A second sign between the first and the word, or a sign behind it."""
    sigil, core, tail = parts_of(source.trigger)
    other = source.pick(SIGILS)
    forms = (f"{sigil}{other}{core}{tail}", f"{core}{other}{tail}", f"{core}{other * 2}")
    return source.pick(forms)


def _two_edits(source: Source) -> str:
    """Two letters exchanged for others."""
    sigil, core, tail = parts_of(source.trigger)
    letters, chars = "aeioubcdfghlmnprstw", list(core)
    for i in source.rng.choice(len(core), size=min(2, len(core)), replace=False):
        chars[i] = cased_as(core, source.pick(letters))
    return f"{sigil}{''.join(chars)}{tail}"


FAMILIES: Final[dict[str, Draw]] = {
    "spelled": _spelled, "brackets": _bracketed, "leet": _leet,
    "signed_synonyms": _signed_synonym, "two_signs": _two_signs, "two_edits": _two_edits,
}  # fmt: skip
_EVERY: Final = FAMILIES | OPEN_FAMILIES


def by_turns(groups: dict[str, list[tuple[str, str]]], count: int) -> list[tuple[str, str]]:
    """`count` symbols, one of each group after the other, from the beginning again at its end."""
    turns = [cycle(members) for members in groups.values() if members]
    return [next(turn) for turn in islice(cycle(turns), count)]
