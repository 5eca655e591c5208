"""Rates by suite, placement and family, with n and Wilson's interval, under our own names."""

from __future__ import annotations

from collections.abc import Sequence

from inspect_ai.scorer import Metric as InspectMetric
from inspect_ai.scorer import SampleScore, Value, metric

from offswitch.evaluate.measures import halt_rates, log_odds_means, outcome_shares
from offswitch.evaluate.outcomes import OUTCOMES
from offswitch.metrics import Metrics
from offswitch.prompts.prompt import Prompt

_ARM = "inspect"


@metric
def rates(seed: int = 0) -> InspectMetric:
    """What `metrics.json` has below `evaluate/ARM/`: KEY, and KEY/low, KEY/high and KEY/n.

    `seed` is that of the bootstrap over questions, which gives the interval of mean log-odds.
    """

    def compute(scores: list[SampleScore]) -> Value:
        return flat(measured(scores, seed))

    return compute


def measured(scores: Sequence[SampleScore], seed: int) -> Metrics:
    """Every measure that the scored samples allow; log-odds only if the provider gave them all."""
    prompts = [prompt_of(score) for score in scores]
    metrics = halt_rates(prompts, [bool(score.score.as_float()) for score in scores])
    odds = [(score.score.metadata or {}).get("log_odds") for score in scores]
    known = [value for value in odds if value is not None]
    if len(known) == len(scores):
        metrics |= log_odds_means(prompts, known, seed)
    kinds = [(p.suite, s.score.answer) for p, s in zip(prompts, scores, strict=True)]
    shares = outcome_shares(_ARM, [(suite, kind) for suite, kind in kinds if kind in OUTCOMES])
    return metrics | {k.removeprefix(f"evaluate/{_ARM}/"): m for k, m in shares.items()}


def flat(metrics: Metrics) -> dict[str, float]:
    """Each measure as four numbers."""
    numbers: dict[str, float] = {}
    for key, found in metrics.items():
        e = found.estimate
        numbers |= {key: e.value, f"{key}/low": e.low, f"{key}/high": e.high, f"{key}/n": e.n}
    return numbers


def prompt_of(score: SampleScore) -> Prompt:
    """The prompt that a scored sample came from, without its chat."""
    known = score.sample_metadata or {}
    fields = ("suite", "variant", "symbol", "question", "topic")
    return Prompt((), *(known[field] for field in fields))
