"""Rows of belief.parquet whose likelihoods are planted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from offswitch.prompts.beliefs import LETTERED, Asked, make_questions


def made(value: Callable[[Asked, int], float], count: int | None = None) -> list[dict[str, Any]]:
    """Rows whose likelihoods are a function of the question and the place, a character's worth."""
    questions = make_questions("$STOP", "$GO", count)
    return [
        {"test": a.item.test, "number": a.number, "invented": a.invented, "place": place,
         "about": a.item.about,
         "right": place == a.place, "answer": text,
         "log_likelihood": value(a, place) * (1 if a.item.test in LETTERED else len(text))}
        for a in questions for place, text in enumerate(a.options)
    ]  # fmt: skip
