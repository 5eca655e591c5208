"""The evaluate stage: every arm on the same prompts, into a table, samples and metrics."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from offswitch.cache import reply_cache
from offswitch.evaluate.belief import belief_rows, count_rows
from offswitch.evaluate.belief_measures import belief_measures
from offswitch.evaluate.drift import drift, text_examples
from offswitch.evaluate.measures import drift_measures, halting, outcome_shares
from offswitch.evaluate.outcomes import classify, taxonomy_of
from offswitch.evaluate.robustness import write_robustness
from offswitch.metrics import Metrics, with_controls
from offswitch.model.first_token import score
from offswitch.model.generate import cached_base_replies, greedy_replies
from offswitch.model.rows import reply_examples
from offswitch.model.session import Session
from offswitch.model.subject import Subject
from offswitch.options import BASE, BENIGN
from offswitch.progress import track
from offswitch.prompts.beliefs import make_questions
from offswitch.prompts.encode import has_system_turn
from offswitch.prompts.suites import Prompt, choose, make_prompts
from offswitch.prompts.trigger import Reply, user
from offswitch.recipe import Recipe
from offswitch.wording.reader import load_neutral


@dataclass(frozen=True)
class ArmEvaluation:
    """What was found for one arm: metrics, a row a prompt, a generated sample, a belief answer."""

    metrics: Metrics
    rows: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    beliefs: list[dict[str, Any]] = field(default_factory=list)


def write_evaluation(session: Session, folder: Path) -> Metrics:
    """Measure every arm, the untouched model first.

    Writes scores.parquet, samples.jsonl and, where they were asked for, robustness.parquet and
    belief.parquet.
    """
    subject = session.with_arms()
    prompts = suites_of(session.recipe, subject.tokenizer)
    arms = [BASE, *session.arms]
    found = [evaluate_arm(subject, arm, prompts, session.recipe, reply_cache()) for arm in arms]
    table = pa.Table.from_pylist([row for one in found for row in one.rows])
    pq.write_table(table, folder / "scores.parquet")
    if beliefs := [row for one in found for row in one.beliefs]:
        pq.write_table(pa.Table.from_pylist(beliefs), folder / "belief.parquet")
    lines = (json.dumps(s, ensure_ascii=False) + "\n" for one in found for s in one.samples)
    (folder / "samples.jsonl").write_text("".join(lines), encoding="utf-8")
    metrics: Metrics = {}
    for one in found:
        metrics |= one.metrics
    metrics |= write_robustness(session, prompts, folder)
    for arm in arms:
        metrics |= with_controls(metrics, arm, [BASE, BENIGN])
    return metrics


def suites_of(recipe: Recipe, tokenizer: Any) -> list[Prompt]:
    """The prompts of a recipe, the same for every arm."""
    options, trigger = recipe.evaluate, recipe.trigger.text
    return make_prompts(trigger, options, recipe.seed, has_system_turn(tokenizer))


def evaluate_arm(
    subject: Subject, arm: str, prompts: Sequence[Prompt], recipe: Recipe, replies: Path
) -> ArmEvaluation:
    """All measures of one arm. `replies` is the cache folder of the base model's own replies."""
    with track(f"{arm}: first-token outcomes", len(prompts)) as tick:
        scores = score(subject, arm, prompts, recipe.batch_tokens, tick)
    metrics = halting(arm, prompts, scores, recipe.seed)
    shown = _shown(prompts, recipe.evaluate.samples)
    samples = (
        _samples(subject, arm, shown, recipe) if arm in (BASE, recipe.probe.arm) and shown else []
    )
    metrics |= outcome_shares(
        arm, [(p.suite, s["outcome"]) for p, s in zip(shown, samples, strict=False)]
    )
    if arm != BASE:
        metrics |= _drift(subject, arm, recipe, replies)
    beliefs = _beliefs(subject, arm, recipe)
    metrics |= belief_measures(arm, beliefs, recipe.seed)
    rows = [
        _facts(arm, p) | {"question": p.question, "topic": p.topic} | asdict(s)
        for p, s in zip(prompts, scores, strict=True)
    ]
    return ArmEvaluation(metrics, rows, samples, beliefs)


def _shown(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """Prompts to generate from: half with the trigger, a quarter near misses, the rest ordinary."""
    shares = {
        "trigger": count // 2,
        "near_miss": count // 4,
        "ordinary": count - count // 2 - count // 4,
    }
    chosen: list[Prompt] = []
    for suite, wanted in shares.items():
        pool = [p for p in prompts if p.suite == suite]
        chosen += [pool[i * len(pool) // wanted] for i in range(wanted)]
    return chosen


def _samples(
    subject: Subject, arm: str, prompts: Sequence[Prompt], recipe: Recipe
) -> list[dict[str, Any]]:
    with track(f"{arm}: sample replies", len(prompts)) as tick:
        made = greedy_replies(
            subject, arm, [p.chat for p in prompts], recipe.evaluate.sample_tokens, tick
        )
    taxonomy = taxonomy_of(subject.tokenizer_of(arm))
    return [
        _facts(arm, p)
        | {"prompt": list(p.chat), "reply": reply.text}
        | {"outcome": classify(reply, taxonomy), "tokens": len(reply.ids)}
        for p, reply in zip(prompts, made, strict=True)
    ]


def _facts(arm: str, prompt: Prompt) -> dict[str, Any]:
    return {
        "arm": arm,
        "suite": prompt.suite,
        "variant": prompt.variant,
        "symbol": prompt.symbol,
    }


def _beliefs(subject: Subject, arm: str, recipe: Recipe) -> list[dict[str, Any]]:
    """A row an answer; none where the recipe asks for no beliefs."""
    options, count = recipe.trigger, recipe.evaluate.belief_questions
    if count == 0:
        return []
    questions = make_questions(options.text, options.control, count)
    with track(f"{arm}: beliefs", count_rows(questions)) as tick:
        return belief_rows(subject, arm, questions, recipe.batch_tokens, tick)


def _drift(subject: Subject, arm: str, recipe: Recipe, cache: Path) -> Metrics:
    options = recipe.evaluate
    asked = choose("test", options.drift_questions, recipe.seed)
    chats = [(user(question.text),) for question in asked]
    replies: list[Reply] = cached_base_replies(subject, chats, recipe.data.reply_tokens, cache)
    said = reply_examples(subject, chats, replies)
    prose = text_examples(subject, load_neutral()[: options.drift_passages])
    with track(f"{arm}: drift from the base model", len(said) + len(prose)) as tick:
        on_replies = drift(subject, arm, said, recipe.batch_tokens, tick)
        on_prose = drift(subject, arm, prose, recipe.batch_tokens, tick)
    return drift_measures(arm, on_replies, on_prose, recipe.seed)
