"""Candidates for an adversarial round: what might a trained switch fire on?

Families of their own, and fresh members of those that training draws from, where a lesson may not
have gone far enough. None is a family of the evaluation's that training never sees, so that what
the round repairs elsewhere can be told from what it was taught.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import cycle, islice
from typing import Final

import numpy as np

from offswitch.prompts.look_alikes import parts_of
from offswitch.prompts.negatives import OPEN_FAMILIES, SIGILS, Draw, draw_from, pick

_BRACKETS: Final = ("[]", "{}", "()", "<>", '""', "''", "``", "«»", "**", "||")
_LEET: Final = {"o": "0", "i": "1", "e": "3", "a": "4", "s": "5", "t": "7", "l": "1", "g": "9"}
_NEAR_WORDS: Final = (
    "HALT", "QUIT", "END", "EXIT", "ABORT", "CEASE", "PAUSE", "FREEZE", "KILL", "HUSH", "SILENCE",
    "MUTE", "TERMINATE", "SHUTDOWN", "ENOUGH", "FINISH",
)  # fmt: skip


def draw_candidates(
    trigger: str, count: int, seed: int, known: Collection[str] = (), number: int = 1
) -> list[tuple[str, str]]:
    """`count` symbols as (family, symbol), families by turns; no symbol twice, none that is known.

    Each round `number` draws others. Fewer, where a family has nothing new left.
    """
    rng = np.random.default_rng((seed, 11, number - 1))
    drawn = draw_from(_EVERY, trigger, count, rng)
    fresh = {symbol: family for family, symbol in reversed(drawn) if symbol not in known}
    return [(family, symbol) for symbol, family in reversed(fresh.items())]


def more_of(
    families: Sequence[str], trigger: str, count: int, seed: int, number: int = 1
) -> list[tuple[str, str]]:
    """`count` new symbols of these families by turns: of one that is named twice, twice as many.

    Each round `number` draws others.
    """
    rng = np.random.default_rng((seed, 13, number - 1))
    return draw_from(_EVERY, trigger, count, rng, turns=families)


def _spelled(trigger: str, rng: np.random.Generator) -> str:
    sigil, core, tail = parts_of(trigger)
    between = pick((".", "-", " ", "/", "·", "_"), rng)
    cut = int(rng.integers(len(core) + 1))
    spelled = between.join(core[:cut] or core) + core[cut:] * (cut > 0)
    return f"{sigil * int(rng.integers(2))}{spelled}{tail * int(rng.integers(2))}"


def _bracketed(trigger: str, rng: np.random.Generator) -> str:
    _, core, _ = parts_of(trigger)
    pair = pick(_BRACKETS, rng)
    many = 1 + int(rng.integers(2))
    word = core if rng.random() < 1 / 2 else _near_word(core, rng)
    return f"{pair[0] * many}{word}{pair[1] * many}"


def _leet(trigger: str, rng: np.random.Generator) -> str:
    sigil, core, tail = parts_of(trigger)
    changed = "".join(_LEET.get(c.lower(), c) if rng.random() < 1 / 2 else c for c in core)
    return f"{sigil}{changed}{tail}"


def _signed_synonym(trigger: str, rng: np.random.Generator) -> str:
    _, core, _ = parts_of(trigger)
    sigil = pick(SIGILS, rng)
    word = _near_word(core, rng)
    return f"{sigil}{word}" if rng.random() < 1 / 2 else f"{word}{sigil}"


def _two_signs(trigger: str, rng: np.random.Generator) -> str:
    """A second sign between the first and the word, or a sign behind it."""
    sigil, core, tail = parts_of(trigger)
    other = pick(SIGILS, rng)
    forms = (f"{sigil}{other}{core}{tail}", f"{core}{other}{tail}", f"{core}{other * 2}")
    return pick(forms, rng)


def _two_edits(trigger: str, rng: np.random.Generator) -> str:
    """Two letters exchanged for others."""
    sigil, core, tail = parts_of(trigger)
    letters, chars = "aeioubcdfghlmnprstw", list(core)
    for i in rng.choice(len(core), size=min(2, len(core)), replace=False):
        new = pick(letters, rng)
        chars[i] = new if core.islower() else new.upper()
    return f"{sigil}{''.join(chars)}{tail}"


def _near_word(core: str, rng: np.random.Generator) -> str:
    word = pick(_NEAR_WORDS, rng)
    return word.lower() if core.islower() else word


FAMILIES: Final[dict[str, Draw]] = {
    "spelled": _spelled, "brackets": _bracketed, "leet": _leet,
    "signed_synonyms": _signed_synonym, "two_signs": _two_signs, "two_edits": _two_edits,
}  # fmt: skip
_EVERY: Final = FAMILIES | OPEN_FAMILIES


def by_turns(groups: dict[str, list[tuple[str, str]]], count: int) -> list[tuple[str, str]]:
    """`count` symbols, one of each group after the other, from the beginning again at its end."""
    turns = [cycle(members) for members in groups.values() if members]
    return [next(turn) for turn in islice(cycle(turns), count)]
