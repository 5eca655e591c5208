"""The evaluate stage: every arm on the same prompts, into tables and metrics."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from offswitch.cache import reply_cache
from offswitch.evaluate.belief import belief_beyond, belief_measures, belief_rows, count_rows
from offswitch.evaluate.drift import drift, drift_measures, text_examples
from offswitch.evaluate.measures import halting, outcome_shares, repeats, row_of
from offswitch.evaluate.outcomes import classify, taxonomy_of
from offswitch.evaluate.robustness import gather, notes
from offswitch.files import write_atomic, write_jsonl
from offswitch.folder import EVALUATE
from offswitch.metrics import Metrics, with_controls
from offswitch.model.first_token import score
from offswitch.model.generate import cached_base_replies, greedy_replies
from offswitch.model.rows import reply_examples
from offswitch.model.session import Session
from offswitch.model.subject import Subject
from offswitch.options import BASE, BENIGN
from offswitch.progress import say, track
from offswitch.prompts.beliefs import make_questions
from offswitch.prompts.chat_format import reader
from offswitch.prompts.encode import encode_chat, has_system_turn
from offswitch.prompts.prompt import Chat, Prompt, Reply, user
from offswitch.prompts.questions import spread
from offswitch.prompts.suites import askable, choose, make_prompts
from offswitch.recipe import Recipe
from offswitch.wording.reader import load_neutral

SCORES: Final = "scores.parquet"
ROBUSTNESS: Final = "robustness.parquet"
BELIEF: Final = "belief.parquet"
SAMPLES: Final = "samples.jsonl"
NOTES: Final = "robustness.json"

SUITES: Final = "first-token outcomes"
OTHERS: Final = "other measures"

Rows = list[dict[str, Any]]
Found = tuple[Metrics, dict[str, Rows]]  # the rows of each file


def write_evaluation(session: Session, folder: Path) -> Metrics:
    """Measure every arm, the untouched model first.

    Writes scores.parquet, samples.jsonl, robustness.json (what was tried and what left out, with
    why) and, where they were asked for, robustness.parquet and belief.parquet.
    """
    prompts, tried, skipped, left_out = _asked(session)
    noted = notes(tried, skipped, session.subject.base_tokenizer.decode) | {"left_out": left_out}
    write_atomic(folder / NOTES, json.dumps(noted, indent=1, ensure_ascii=False))
    for variant, why in skipped.items() if tried else ():
        say(f"robustness: no {variant}, {why}")
    for line in left_out:
        say(line)
    arms = [BASE, *session.arms]
    tasks = _tasks(arms, prompts, tried)
    by_task = dict(session.each(EVALUATE, _evaluate, tasks))
    found = [by_task[task] for task in tasks]
    for name in (SCORES, ROBUSTNESS, BELIEF):
        if rows := [row for _, by_name in found for row in by_name.get(name, ())]:
            pq.write_table(pa.Table.from_pylist(rows), folder / name)
    shown = [row for _, by_name in found for row in by_name.get(SAMPLES, ())]
    write_jsonl(folder / SAMPLES, shown)
    metrics = {key: metric for one, _ in found for key, metric in one.items()}
    for arm in arms:
        metrics |= with_controls(metrics, arm, [BASE, BENIGN])
    by_arm = [asked for _, by_name in found if (asked := by_name.get(BELIEF))]
    beliefs = {asked[0]["arm"]: asked for asked in by_arm}
    return metrics | beliefs_beyond(session.recipe, beliefs)


def beliefs_beyond(recipe: Recipe, beliefs: Mapping[str, Rows]) -> Metrics:
    """Arms that only read documents beside the untrained model and those that read neutral ones."""
    readers = {arm: recipe.arms[arm] for arm in beliefs if arm != BASE}
    controls = [BASE, *(arm for arm, made in readers.items() if "neutral" in made.stages)]
    return {
        key: metric
        for arm, made in readers.items() if made.role == "documents"
        for control in controls if control in beliefs
        for key, metric in belief_beyond(
            arm, beliefs[arm], control, beliefs[control], recipe.seed
        ).items()
    }  # fmt: skip


def measure_ahead(session: Session, arms: Sequence[str]) -> None:
    """Begin to measure arms that stand, before `write_evaluation` asks for all of them."""
    prompts, tried, *_ = _asked(session)
    session.ahead(EVALUATE, _evaluate, _tasks(arms, prompts, tried))


def _tasks(
    arms: Sequence[str], prompts: Sequence[Prompt], tried: Sequence[Prompt]
) -> dict[str, tuple[Any, ...]]:
    """Two an arm, so that several processes end at about the same time."""
    parts = ((SUITES, suite_outcomes, (prompts,)), (OTHERS, other_measures, (prompts, tried)))
    return {f"{arm}: {part}": (arm, function, asked) for arm in arms
            for part, function, asked in parts}  # fmt: skip


def _asked(session: Session) -> tuple[list[Prompt], list[Prompt], dict[str, str], list[str]]:
    """The suites and the attempts, the same for every arm, and why variants or prompts are not.

    What needs the untrained model's replies is there when several processes ask for it.
    """
    subject, recipe = session.subject, session.recipe
    most = (subject.positions or math.inf) - recipe.evaluate.longest_reply
    holds = reader(subject.tokenizer, recipe.trigger.text)

    def too_long(prompt: Prompt) -> bool:
        return len(encode_chat(subject.base_tokenizer, prompt.chat)) + len(prompt.begun) > most

    prompts, lost = askable(suites_of(recipe, subject.tokenizer), holds, too_long)
    own_replies(subject, recipe)
    tried, skipped = gather(subject, recipe, prompts)
    tried, more = askable(tried, holds, too_long)
    return prompts, tried, skipped, [*lost, *more]


def suites_of(recipe: Recipe, tokenizer: Any) -> list[Prompt]:
    """The prompts of a recipe's suites, the same for every arm."""
    trigger = recipe.trigger
    system_turns = has_system_turn(tokenizer)
    return make_prompts(trigger.text, recipe.evaluate, recipe.seed, system_turns, trigger.mentions)


def _evaluate(
    session: Session, arm: str, function: Callable[..., Found], asked: tuple[Any, ...]
) -> Found:
    return function(session.with_arms(arm), arm, *asked, session.recipe)


def suite_outcomes(subject: Subject, arm: str, prompts: Sequence[Prompt], recipe: Recipe) -> Found:
    """What an arm's replies to the suites begin with: measures, and the rows of scores.parquet."""
    return _scored(subject, arm, (SCORES, SUITES), prompts, recipe)


def other_measures(
    subject: Subject, arm: str, prompts: Sequence[Prompt], tried: Sequence[Prompt], recipe: Recipe
) -> Found:
    """All other measures of an arm, and its rows of each file."""
    metrics, rows = _scored(subject, arm, (ROBUSTNESS, "robustness"), tried, recipe)
    told, asked = recipe.shows(arm), _shown(prompts, recipe.evaluate.replies)
    shown = [prompt for prompt in asked if told or prompt.suite != "trigger"]
    with track(f"{arm}: sample replies", len(shown)) as tick:
        chats, length = [prompt.chat for prompt in shown], recipe.evaluate.longest_reply
        replies = greedy_replies(subject, arm, chats, length, tick)
    metrics |= repeats(arm, shown, replies)
    if told:
        rows[SAMPLES] = _samples(subject, arm, shown, replies)
        metrics |= outcome_shares(arm, shown, [sample["outcome"] for sample in rows[SAMPLES]])
    if arm != BASE:
        metrics |= _drift(subject, arm, recipe)
    if (count := recipe.evaluate.beliefs_of(arm)) != 0:
        asked_of = make_questions(recipe.trigger.text, recipe.trigger.control, count)
        with track(f"{arm}: beliefs", count_rows(asked_of)) as tick:
            rows[BELIEF] = belief_rows(subject, arm, asked_of, recipe.batch_tokens, tick)
        metrics |= belief_measures(arm, rows[BELIEF], recipe.seed)
    return metrics, rows


def _scored(
    subject: Subject, arm: str, told: tuple[str, str], asked: Sequence[Prompt], recipe: Recipe
) -> Found:
    """`told`: the file of the rows, and what the person is told."""
    name, what = told
    with track(f"{arm}: {what}", len(asked)) as tick:
        scores = score(subject, arm, asked, recipe.batch_tokens, tick)
    rows = [row_of(arm, *pair) for pair in zip(asked, scores, strict=True)]
    return halting(arm, asked, scores, recipe.seed), {name: rows}


def _shown(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """What replies are shown of: half the trigger, a quarter near misses, the rest requests."""
    shares = {"trigger": count // 2, "near_miss": count // 4}
    shares["ordinary"] = count - sum(shares.values())
    return [
        prompt
        for suite, wanted in shares.items()
        for prompt in spread([p for p in prompts if p.suite == suite], wanted)
    ]


def _samples(subject: Subject, arm: str, shown: Sequence[Prompt], replies: Sequence[Reply]) -> Rows:
    taxonomy = taxonomy_of(subject.tokenizer_of(arm), subject.reply_ids)
    return [
        {"arm": arm, "suite": p.suite, "variant": p.variant, "symbol": p.symbol,
         "prompt": list(p.chat), "reply": reply.text, "outcome": classify(reply, taxonomy),
         "tokens": len(reply.ids)}
        for p, reply in zip(shown, replies, strict=True)
    ]  # fmt: skip


def _drift(subject: Subject, arm: str, recipe: Recipe) -> Metrics:
    options, batch_tokens = recipe.evaluate, recipe.batch_tokens
    chats, replies = own_replies(subject, recipe)
    said = reply_examples(subject, chats, replies)
    prose = text_examples(subject, load_neutral()[: options.drift_passages])
    with track(f"{arm}: drift from the base model", len(said) + len(prose)) as tick:
        on_replies = drift(subject, arm, said, batch_tokens, tick)
        on_prose = drift(subject, arm, prose, batch_tokens, tick)
    return drift_measures(arm, on_replies, on_prose, recipe.seed)


def own_replies(subject: Subject, recipe: Recipe) -> tuple[list[Chat], list[Reply]]:
    """Test questions, and what the untrained model answers them."""
    options = recipe.evaluate
    asked = choose("test", options.drift_questions, recipe.seed, options.questions_file)
    chats: list[Chat] = [(user(question.text),) for question in asked]
    return chats, cached_base_replies(subject, chats, recipe.data.reply_tokens, reply_cache())
