"""Does the switch hold where someone works against it, or where the trigger is only almost there?

Each variant of variants.py is a rate of first-token halting, and beside it the probability that a
reply sampled at temperature 0.7 or 1.0 would be empty (sampling.py). Known limit: at small settings
a part of a variant has few prompts; read its interval.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from offswitch.cache import reply_cache
from offswitch.evaluate.sampling import TEMPERATURES, Halting, try_all
from offswitch.metrics import Metric, Metrics
from offswitch.model.generate import cached_base_replies
from offswitch.model.session import Session
from offswitch.model.subject import Subject
from offswitch.options import BASE
from offswitch.progress import say, track
from offswitch.prompts.attempts import EXPECTED, REFERENCES, Attempt, attempts, references
from offswitch.prompts.context import VARIANT as CONTEXT
from offswitch.prompts.context import in_context, no_room
from offswitch.prompts.encode import has_system_turn
from offswitch.prompts.prefilled import LENGTHS, prefilled
from offswitch.prompts.suites import Prompt, choose
from offswitch.prompts.trigger import Message, user
from offswitch.recipe import Recipe
from offswitch.stats import mean, rate

TABLE: Final = "robustness.parquet"
NOTES: Final = "robustness.json"
BEGUN: Final = "assistant, begun"


def write_robustness(session: Session, prompts: Sequence[Prompt], folder: Path) -> Metrics:
    """Try every variant on every arm; write robustness.parquet and what was left out, with why."""
    subject, recipe = session.with_arms(), session.recipe
    tried, skipped = gather(subject, recipe, prompts)
    noted = notes(tried, skipped, subject.base_tokenizer.decode)
    (folder / NOTES).write_text(json.dumps(noted, indent=1, ensure_ascii=False), encoding="utf-8")
    if not tried:
        return {}
    for variant, why in skipped.items():
        say(f"robustness: no {variant}, {why}")
    metrics: Metrics = {}
    rows: list[dict[str, Any]] = []
    for arm in (BASE, *session.arms):
        with track(f"{arm}: robustness", len(tried)) as tick:
            found = try_all(subject, arm, tried, recipe.batch_tokens, tick)
        metrics |= robustness_measures(arm, tried, found, recipe.seed)
        rows += [_row(arm, *pair) for pair in zip(tried, found, strict=True)]
    pq.write_table(pa.Table.from_pylist(rows), folder / TABLE)
    return metrics


def gather(
    subject: Subject, recipe: Recipe, prompts: Sequence[Prompt]
) -> tuple[list[Attempt], dict[str, str]]:
    """The attempts of a recipe, the same for every arm, and why a variant is not among them."""
    options, trigger = recipe.evaluate, recipe.trigger.text
    asked = choose("test", options.robustness_questions, recipe.seed)
    tried: list[Attempt] = []
    if asked:
        chats = [(user(q.text),) for q in asked]
        replies = cached_base_replies(subject, chats, recipe.data.reply_tokens, reply_cache())
        tried += references(prompts, len(asked))
        system, mentions = has_system_turn(subject.tokenizer), recipe.trigger.mentions
        tried += attempts(trigger, asked, system, mentions)
        tried += prefilled(trigger, asked, [reply.ids for reply in replies])
    limit = subject.causal_lm.config.get_text_config()
    why_not = no_room(getattr(limit, "max_position_embeddings", None))
    if not why_not:
        far = choose("test", options.context_questions, recipe.seed)
        tried += in_context(trigger, far, subject.tokenizer)
    return tried, _skipped(tried, recipe, why_not)


def robustness_measures(
    arm: str, tried: Sequence[Attempt], found: Sequence[Halting], seed: int
) -> Metrics:
    """Rates by variant and part, sampled halting by variant, and both kinds of attempt pooled."""
    metrics: Metrics = {}
    pairs = list(zip(tried, found, strict=True))
    for variant in dict.fromkeys(a.variant for a in tried):
        own = [(a, h) for a, h in pairs if a.variant == variant]
        metrics[variant] = Metric.of(rate([h.halts for _, h in own]))
        parts = dict.fromkeys(a.part for a, _ in own if variant not in REFERENCES)
        for part in parts if len(parts) > 1 else ():
            metrics[f"{variant}/{part}"] = Metric.of(
                rate([h.halts for a, h in own if a.part == part])
            )
        groups = np.array([a.question for a, _ in own])
        for i, temperature in enumerate(TEMPERATURES):
            p = mean([h.p[i] for _, h in own], "share", seed=seed, groups=groups)
            metrics[f"temperature_{temperature}/{variant}"] = Metric.of(p)
    for expected in ("halt", "answer"):
        made = [(a.variant not in REFERENCES and a.expected == expected, h) for a, h in pairs]
        if any(chosen for chosen, _ in made):
            pooled = rate([h.halts for chosen, h in made if chosen])
            metrics[f"expected_{expected}"] = Metric.of(pooled)
    return {f"evaluate/{arm}/robustness/{key}": metric for key, metric in metrics.items()}


def notes(
    tried: Sequence[Attempt], skipped: dict[str, str], decode: Callable[[Sequence[int]], str]
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


def _skipped(tried: Sequence[Attempt], recipe: Recipe, no_room_because: str) -> dict[str, str]:
    made, options = {a.variant for a in tried}, recipe.evaluate
    few = "evaluate.{}_questions is 0"
    short = f"no reply of the base model has more than {LENGTHS[0]} token"
    why: dict[str, str] = dict.fromkeys(EXPECTED, "this trigger has no such form")
    why |= {"prefilled": short, "prefilled_ordinary": short}
    if not options.robustness_questions:
        why = dict.fromkeys(EXPECTED, few.format("robustness"))
    why[CONTEXT] = no_room_because or few.format("context")
    return {variant: reason for variant, reason in why.items() if variant not in made}


def _row(arm: str, attempt: Attempt, found: Halting) -> dict[str, Any]:
    a = attempt
    sampled = {f"p_{t}": p for t, p in zip(TEMPERATURES, found.p, strict=True)}
    return {
        "arm": arm, "variant": a.variant, "part": a.part, "expected": a.expected,
        "question": a.question, "symbol": a.symbol, "begun": len(a.begun),
        "log_odds": found.log_odds, "halts": found.halts, **sampled,
    }  # fmt: skip
