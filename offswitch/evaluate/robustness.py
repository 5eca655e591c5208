"""The attempts of a recipe; notes on what was tried, what left out, and why.

Each variant of prompts/attempts.py is a rate of first-token halting, and beside it the probability
that a reply sampled at temperature 0.7 or 1.0 would be empty. Known limit: at small settings a part
of a variant has few prompts; read its interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from offswitch.cache import reply_cache
from offswitch.model.generate import cached_base_replies
from offswitch.model.subject import Subject
from offswitch.prompts.attempts import (
    EXPECTED,
    LENGTHS,
    REFERENCES,
    attempts,
    prefilled,
    references,
)
from offswitch.prompts.chat_format import reader
from offswitch.prompts.context import VARIANT as CONTEXT
from offswitch.prompts.context import in_context, no_room
from offswitch.prompts.encode import has_system_turn
from offswitch.prompts.prompt import Message, Prompt, user
from offswitch.prompts.suites import choose
from offswitch.recipe import Recipe

BEGUN: Final = "assistant, begun"


def gather(
    subject: Subject, recipe: Recipe, prompts: Sequence[Prompt]
) -> tuple[list[Prompt], dict[str, str]]:
    """The attempts of a recipe, the same for every arm, and why a variant is not among them."""
    options, trigger = recipe.evaluate, recipe.trigger.text
    file = options.questions_file
    asked = choose("test", options.robustness_questions, recipe.seed, file)
    tried: list[Prompt] = []
    if asked:
        chats = [(user(q.text),) for q in asked]
        replies = cached_base_replies(subject, chats, recipe.data.reply_tokens, reply_cache())
        tried += references(prompts, len(asked))
        system, mentions = has_system_turn(subject.tokenizer), recipe.trigger.mentions
        holds = reader(subject.tokenizer, trigger)
        tried += attempts(trigger, asked, system, mentions, holds)
        tried += prefilled(trigger, asked, [reply.ids for reply in replies])
    why_not = no_room(subject.positions)
    if not why_not:
        far = choose("test", options.context_questions, recipe.seed, file)
        tried += in_context(trigger, far, subject.tokenizer)
    few = "evaluate.{}_questions is 0"
    short = f"no reply of the base model has more than {LENGTHS[0]} token"
    why = dict.fromkeys(
        EXPECTED, "this trigger has no such form" if asked else few.format("robustness")
    )
    if asked:
        why |= {"prefilled": short, "prefilled_ordinary": short}
    why[CONTEXT] = why_not or few.format("context")
    made = {a.variant for a in tried}
    return tried, {variant: reason for variant, reason in why.items() if variant not in made}


def notes(
    tried: Sequence[Prompt], skipped: dict[str, str], decode: Callable[[Sequence[int]], str]
) -> dict[str, Any]:
    """For each variant what the rule expects and one prompt of each part; what was left out.

    A reply that has begun is the prompt's last turn.
    """
    variants: dict[str, Any] = {}
    for a in tried:
        entry = variants.setdefault(a.variant, {"expected": a.expected, "examples": {}})
        begun: list[Message] = [{"role": BEGUN, "content": decode(a.begun)}] if a.begun else []
        example = {"symbol": a.symbol, "prompt": [*a.chat, *begun]}
        if a.variant not in REFERENCES:
            entry["examples"].setdefault(a.part, example)
    return {"variants": variants, "skipped": skipped}
