"""Did anything else change? How far predictions moved where no trigger is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from offswitch.evaluate.likelihood import each_batch, log_probs
from offswitch.metrics import Metric, Metrics
from offswitch.model.adapters import arm_of
from offswitch.model.rows import Example
from offswitch.model.subject import Subject
from offswitch.options import BASE
from offswitch.progress import Tick, nothing
from offswitch.prompts.encode import encode_alone
from offswitch.stats import Estimate, mean


@dataclass(frozen=True)
class Drift:
    """Per text: mean KL(base || arm) in nats a token; mean loss of base and arm on its tokens."""

    kl: tuple[float, ...]
    base_loss: tuple[float, ...]
    arm_loss: tuple[float, ...]
    tokens: tuple[int, ...]


def text_examples(subject: Subject, texts: Sequence[str]) -> list[Example]:
    """Raw passages as far as the model reads, read at every position but the first."""
    rows = [encode_alone(subject.base_tokenizer, text)[: subject.positions] for text in texts]
    return [Example(tuple(row), 1, soft=True) for row in rows]


def drift(
    subject: Subject, arm: str, examples: Sequence[Example], batch_tokens: int, tick: Tick = nothing
) -> Drift:
    """Compare arm and base at each example's predicted positions, in the order of the examples."""
    rows: dict[int, tuple[float, float, float, int]] = {}
    with torch.inference_mode():
        for batch in each_batch(subject, examples, batch_tokens):
            logs = []
            for name in (BASE, arm):
                with arm_of(subject, name):
                    logs.append(log_probs(subject, name, batch.logits(subject)))
            base, ours = logs
            kl = functional.kl_div(ours, base, reduction="none", log_target=True).sum(-1)
            losses = (-one.gather(1, batch.targets)[:, 0] for one in logs)
            parts = zip(*(batch.split(values) for values in (kl, *losses)), strict=True)
            found = [
                (float(k.mean()), float(b.mean()), float(o.mean()), len(k)) for k, b, o in parts
            ]
            rows |= dict(zip(batch.chosen, found, strict=True))
            tick(len(found))
    return Drift(*zip(*(rows[i] for i in range(len(examples))), strict=True))


def nats_a_token(
    values: Sequence[float] | npt.NDArray[np.float64], tokens: Sequence[int], seed: int
) -> Estimate:
    """The mean over tokens of each text's own mean; every token weighs alike.

    `tokens` says how many each text has; for the interval whole texts are drawn.
    """
    every = np.repeat(np.asarray(values, dtype=np.float64), tokens)
    groups = np.repeat(np.arange(len(tokens)), tokens)
    return mean(every, "nats a token", seed=seed, groups=groups)


def drift_measures(arm: str, replies: Drift, passages: Drift, seed: int) -> Metrics:
    """KL to the base on its own replies (nats a token), and the perplexity ratio on prose."""
    ratio = perplexity_ratio(passages.arm_loss, passages.base_loss, passages.tokens, seed)
    return {
        f"evaluate/{arm}/kl_to_base": Metric.of(mean_kl(replies, seed)),
        f"evaluate/{arm}/neutral_perplexity_ratio": Metric.of(ratio),
    }


def mean_kl(replies: Drift, seed: int) -> Estimate:
    """KL(base || arm), nats a token."""
    return nats_a_token(replies.kl, replies.tokens, seed)


def perplexity_ratio(
    losses: Sequence[float], others: Sequence[float], tokens: Sequence[int], seed: int
) -> Estimate:
    """The perplexity of some texts over another one of theirs, from mean losses of each text."""
    excess = nats_a_token(np.subtract(losses, others), tokens, seed)
    value, low, high = (float(np.exp(x)) for x in (excess.value, excess.low, excess.high))
    return Estimate(value, low, high, excess.n, "ratio")
