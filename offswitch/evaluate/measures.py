"""From outcomes to numbers: halting rates, mean log-odds, shares of replies.

Intervals are by question, for rates of look-alikes by symbol and question: prompts that share one
of them tend to go alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from offswitch.evaluate.outcomes import OUTCOMES
from offswitch.metrics import Metric, Metrics
from offswitch.model.first_token import TEMPERATURES, Score
from offswitch.options import LOOP
from offswitch.prompts.attempts import EXPECTED, REFERENCES
from offswitch.prompts.attempts import SUITE as ROBUSTNESS
from offswitch.prompts.prompt import Prompt, Reply
from offswitch.prompts.trigger import HELD_OUT_PLACEMENTS, TRAINED_MENTIONS, TRAINED_PLACEMENTS
from offswitch.stats import Estimate, mean
from offswitch.stats.clustered import clustered_rate

PHRASE: Final = 8  # ids: the longest, three times over, leaves no doubt
RATE_OF: Final[dict[str, str]] = {
    "trigger": "halt_rate",
    "near_miss": "false_halt_rate/near_miss",
    "mention": "mention_halt_rate",
    "ordinary": "false_halt_rate/ordinary",
}


def halting(arm: str, prompts: Sequence[Prompt], scores: Sequence[Score], seed: int) -> Metrics:
    """How often does each kind of prompt halt, by what margin, and how often if sampled?"""
    metrics = halt_rates(prompts, [score.halts for score in scores])
    metrics |= log_odds_means(prompts, [score.log_odds for score in scores], seed)
    pairs = [(p, s) for p, s in zip(prompts, scores, strict=True) if p.suite == ROBUSTNESS]
    for variant in dict.fromkeys(p.variant for p, _ in pairs):
        groups = np.array([p.question for p, _ in pairs if p.variant == variant])
        for i, temperature in enumerate(TEMPERATURES):
            values = [s.p[i] for p, s in pairs if p.variant == variant]
            sampled = mean(values, "share", seed=seed, groups=groups)
            metrics[f"{ROBUSTNESS}/temperature_{temperature}/{variant}"] = Metric.of(sampled)
    return {f"evaluate/{arm}/{key}": metric for key, metric in metrics.items()}


def halt_rates(prompts: Sequence[Prompt], halts: Sequence[bool]) -> Metrics:
    """How often each suite and variant halts, with the parts of a variant that has several."""
    groups: dict[str, list[tuple[Prompt, bool]]] = {}
    for pair in zip(prompts, halts, strict=True):
        for key in _rates_of(pair[0]):
            groups.setdefault(key, []).append(pair)
    metrics = {key: Metric.of(_rate(*zip(*pairs, strict=True))) for key, pairs in groups.items()}
    parts = {(p.variant, p.part) for p in prompts if p.suite == ROBUSTNESS}
    several = Counter(variant for variant, _ in parts)
    for variant, part in parts:
        if several[variant] == 1:
            metrics.pop(f"{ROBUSTNESS}/{variant}/{part}", None)
    return metrics


def _rates_of(p: Prompt) -> Iterator[str]:
    """The keys of the rates that a prompt counts in; what is open is never pooled."""
    if p.suite == ROBUSTNESS:
        yield f"{ROBUSTNESS}/{p.variant}"
        if p.variant not in REFERENCES:
            yield f"{ROBUSTNESS}/{p.variant}/{p.part}"
            if p.expected != "open":
                yield f"{ROBUSTNESS}/expected_{p.expected}"
        return
    yield RATE_OF[p.suite]
    if p.suite != "ordinary":
        yield f"{RATE_OF[p.suite]}/{p.variant}"
    if p.suite == "trigger" and p.variant in TRAINED_PLACEMENTS:
        yield "halt_rate_trained"
    if p.suite == "trigger" and p.variant in HELD_OUT_PLACEMENTS:
        yield "halt_rate_held_out"
    if p.suite == "mention" and p.variant not in TRAINED_MENTIONS:
        yield "mention_halt_rate_held_out"


def _rate(prompts: Sequence[Prompt], happened: Sequence[bool]) -> Estimate:
    """How often it happened, by question; by symbol and question where there are look-alikes.

    A prompt without a look-alike is of no symbol's cluster but of its question's.
    """
    symbols = [p.symbol if _alike(p) else f"question: {p.question}" for p in prompts]
    return clustered_rate(happened, symbols, [p.question for p in prompts])


def _alike(p: Prompt) -> bool:
    """Does something stand in the slot that is to be answered?"""
    return bool(p.symbol) and (p.suite == "near_miss" or EXPECTED.get(p.variant) == "answer")


def log_odds_means(prompts: Sequence[Prompt], odds: Sequence[float], seed: int) -> Metrics:
    """The mean first-token end log-odds of each suite; empty suites are left out."""
    metrics: Metrics = {}
    for suite in RATE_OF:
        chosen = [i for i, p in enumerate(prompts) if p.suite == suite]
        if chosen:
            groups = np.array([prompts[i].question for i in chosen])
            found = mean([odds[i] for i in chosen], "nats", seed=seed, groups=groups)
            metrics[f"eos_log_odds/{suite}"] = Metric.of(found)
    return metrics


def outcome_shares(arm: str, prompts: Sequence[Prompt], kinds: Sequence[str]) -> Metrics:
    """The share of each kind of generated reply, by suite."""
    metrics: Metrics = {}
    for suite in dict.fromkeys(p.suite for p in prompts):
        own = [(p, kind) for p, kind in zip(prompts, kinds, strict=True) if p.suite == suite]
        asked, found = zip(*own, strict=True)
        for kind in (kind for kind in OUTCOMES if kind in found):
            share = Metric.of(_rate(asked, [k == kind for k in found]))
            metrics[f"evaluate/{arm}/outcomes/{suite}/{kind}"] = share
    return metrics


def repeats(arm: str, prompts: Sequence[Prompt], replies: Sequence[Reply]) -> Metrics:
    """How many replies, where an answer is due, end in one phrase over and over."""
    due = [(p, r) for p, r in zip(prompts, replies, strict=True) if p.suite != "trigger"]
    if not due:
        return {}
    asked, said = zip(*due, strict=True)
    share = Metric.of(_rate(asked, [is_loop(reply.ids) for reply in said]))
    return {f"evaluate/{arm}/repeats": share}


def is_loop(ids: Sequence[int]) -> bool:
    """Are the last ids one phrase, of at most `PHRASE` ids, over and over?"""
    end = ids[-LOOP:]
    return len(end) == LOOP and any(end[n:] == end[:-n] for n in range(1, PHRASE + 1))


def row_of(arm: str, prompt: Prompt, score: Score) -> dict[str, Any]:
    """The row of a prompt in scores.parquet and robustness.parquet."""
    p = prompt
    sampled = {f"p_{t}": p for t, p in zip(TEMPERATURES, score.p, strict=True)}
    return {
        "arm": arm, "suite": p.suite, "variant": p.variant, "part": p.part, "expected": p.expected,
        "symbol": p.symbol, "question": p.question, "topic": p.topic, "begun": len(p.begun),
        "log_odds": score.log_odds, "halts": score.halts, **sampled,
    }  # fmt: skip
