"""Nulls and controls as choices of input: the same arrays, another arm or another symbol.

An analysis is handed arrays and cannot know whether they are the real ones, a null draw or a
control.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from offswitch.probe.analysis import Views

BASE: Final = "base"
WORD: Final = "word"
TOKEN: Final = "token"

INERT_WORDS: Final = (
    "table", "river", "window", "garden", "yellow", "copper", "winter", "basket",
    "mountain", "paper", "silver", "orange", "kitchen", "pencil", "forest", "bottle",
    "carpet", "island", "violin", "butter", "shadow", "bridge", "summer", "button",
    "candle", "feather", "harbour", "jacket", "ladder", "meadow", "needle", "onion",
    "pebble", "ribbon", "saddle", "tunnel", "velvet", "walnut", "anchor", "barrel",
    "cactus", "dolphin", "engine", "fossil", "ginger", "hammer", "igloo", "jungle",
    "kettle", "lemon", "marble", "nickel", "oyster", "pepper", "quartz", "rabbit", "salmon",
    "turnip", "umbrella", "valley",
)  # fmt: skip


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
