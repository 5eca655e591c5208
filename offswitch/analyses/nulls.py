"""Nulls and controls as choices of input: another arm, symbol, or labelling.

An analysis is handed arrays and cannot know whether they are the real ones, a null draw or a
control.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from offswitch.analyses.analysis import Array, Views
from offswitch.options import BASE, BENIGN
from offswitch.prompts.look_alikes import INERT_WORDS

INERT: Final = "inert"
RANDOM: Final = "random"
RANDOM_DIRECTIONS: Final = "random directions"
SWAPS: Final = "label swaps"
FLIPS: Final = "sign flips"
DRAWS: Final = 40
FEW: Final = 6
HALF: Final = 0.5
ORIGINAL: Final = "seed/"  # how the keys of the original's numbers begin
WORD: Final = "word"
TOKEN: Final = "token"


def inert_words(seed: int, count: int) -> tuple[str, ...]:
    """Which ordinary words stand in for the trigger? `count` distinct ones, none near its meaning.

    Raises:
        ValueError: more words are wanted than there are.
    """
    if not 1 <= count <= len(INERT_WORDS):
        raise ValueError(f"expected 1 to {len(INERT_WORDS)} inert words, got {count}")
    chosen = np.random.default_rng(seed).choice(len(INERT_WORDS), size=count, replace=False)
    return tuple(INERT_WORDS[i] for i in chosen)


def seed_symbols(trigger: str, control: str, seed: int, count: int = 20) -> dict[str, str]:
    """Every symbol that is put into the slot: the trigger, its control, and `count` inert words."""
    words = {f"{WORD}{i:02d}": word for i, word in enumerate(inert_words(seed, count))}
    return {"trigger": trigger, "control": control, **words}


def inert_symbols(views: Views) -> tuple[Views, ...]:
    """Null: each inert word in the slot, same arm."""
    keys = sorted(key for key in views.symbols if key.startswith(WORD))
    return tuple(views.seen_as(symbol=key) for key in keys)


def random_sets(views: Views) -> tuple[Views, ...]:
    """Null: what was done with the heads that matter most, done with as many drawn at random."""
    keys = sorted(key for key in views.symbols if key.startswith(RANDOM))
    return tuple(views.seen_as(symbol=key) for key in keys)


def swapped_pairs(*pairs: tuple[str, str], prompts: int = 0) -> Callable[[Views], Iterator[Views]]:
    """Null: the two labels change places in a random half of the prompts, the axis `prompts`."""

    def draws(views: Views) -> Iterator[Views]:
        for half in _halves(views.array(pairs[0][0]).shape[prompts]):
            changed: dict[str, Array] = {}
            for one, other in pairs:
                first, second = views.array(one), views.array(other)
                mask = np.expand_dims(half, [i for i in range(first.ndim) if i != prompts])
                changed |= {
                    one: np.where(mask, second, first),
                    other: np.where(mask, first, second),
                }
            yield views.with_arrays(changed)

    return draws


def flipped_changes(*pairs: tuple[str, str]) -> Callable[[Views], Iterator[Views]]:
    """Null: in a random half of the prompts every change has the opposite sign.

    A pair names what is untouched [N] and what was changed [..., N]; prompts are the last axis.
    """

    def draws(views: Views) -> Iterator[Views]:
        for half in _halves(len(views.array(pairs[0][0]))):
            changed: dict[str, Array] = {}
            for clean, other in pairs:
                before, after = views.array(clean), views.array(other)
                changed[other] = np.where(half, 2 * before - after, after)
            yield views.with_arrays(changed)

    return draws


def _halves(prompts: int) -> Iterator[Array]:
    """Which prompts are changed, drawn by coins; of few, each choice but none of them once.

    The latter makes p that of the exact test: coins would bring some choices twice, others never.
    """
    if prompts <= FEW:
        yield from ((i >> np.arange(prompts)) % 2 == 1 for i in range(1, 2**prompts))
        return
    for draw in range(DRAWS):
        yield np.random.default_rng(draw).random(prompts) < HALF


def without_the_rule(views: Views) -> dict[str, Views]:
    """Controls: the same in the arms that learnt no rule."""
    arms = [arm for arm in (BASE, BENIGN) if arm in views.arms and arm != views.arm]
    return {f"arm {arm}": views.seen_as(arm=arm) for arm in arms}


def arms_and_inert_symbol(views: Views) -> dict[str, Views]:
    """Controls: the arms that learnt no rule, and a second inert symbol in the slot."""
    return without_the_rule(views) | {views.symbols[INERT]: views.seen_as(symbol=INERT)}


def untrained_and_control(views: Views) -> dict[str, Views]:
    """Controls: the untrained model, the control symbol, both at once.

    If the trigger became a token of its own, so is the untrained model handed that token, which it
    never saw.
    """
    control = views.symbols["control"]
    chosen = {control: views.seen_as(symbol="control")}
    if views.arm == BASE:
        return chosen
    untrained = {"untrained": views.seen_as(arm=BASE)}
    if TOKEN in views.symbols:
        untrained["untrained (same token)"] = views.seen_as(arm=BASE, symbol=TOKEN)
    both = {f"untrained {control}": views.seen_as(arm=BASE, symbol="control")}
    return untrained | chosen | both


def arms_and_symbols(views: Views) -> dict[str, Views]:
    """Controls: the same text in the other trained arms, and with the control symbol in front.

    The trigger in front is none: there, a change is what training was for.
    """
    others = {arm: views.seen_as(arm=arm) for arm in views.arms if arm not in (BASE, views.arm)}
    in_front = views.seen_as(symbol="control")
    return others | {f"{views.symbols['control']} in front": in_front}
