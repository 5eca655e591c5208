"""How likely is a text as the next words, given that the reply does not end? Sums of log p.

A silent arm gives nearly all its probability to the end. Tokens that end a reply are therefore left
out of every next-token distribution, and the rest scaled to 1: what is compared are replies that
do go on. Known limit: of a model that never goes on this says what it would say, not what it does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from offswitch.model.adapters import arm_of
from offswitch.model.first_token import last_logits
from offswitch.model.forward import hidden, unembed
from offswitch.model.rows import IGNORED, Example, by_length, collate
from offswitch.model.subject import Subject, published_log_probs
from offswitch.options import BASE
from offswitch.progress import Tick, nothing


def log_likelihoods(
    subject: Subject, arm: str, examples: Sequence[Example], batch_tokens: int, tick: Tick = nothing
) -> list[float]:
    """Log-likelihood in nats of each example's ids from its start on, in the order given."""
    sums: dict[int, float] = {}
    with arm_of(subject, arm), torch.inference_mode():
        for chosen in by_length([example.ids for example in examples], min(batch_tokens, 1024)):
            batch = collate([examples[i] for i in chosen])
            found = _sums(subject, arm, {k: v.to(subject.device) for k, v in batch.items()})
            sums |= dict(zip(chosen, found, strict=True))
            tick(len(chosen))
    return [sums[i] for i in range(len(examples))]


def next_log_likelihoods(
    subject: Subject,
    arm: str,
    prompts: Sequence[Sequence[int]],
    tokens: Sequence[int],
    batch_tokens: int,
    tick: Tick = nothing,
) -> list[list[float]]:
    """Log-likelihood in nats of each of `tokens` as the first of the reply, a row a prompt."""
    rows: dict[int, list[float]] = {}
    with arm_of(subject, arm), torch.inference_mode():
        for chosen, logits in last_logits(subject, prompts, batch_tokens):
            logs = going_on(subject, arm, logits)[:, list(tokens)]
            rows |= dict(zip(chosen, logs.tolist(), strict=True))
            tick(len(chosen))
    return [rows[i] for i in range(len(prompts))]


def going_on(subject: Subject, arm: str, logits: Tensor) -> Tensor:
    """Log-probabilities [..., V] of the next token of a text that does not end here."""
    stops = torch.tensor(list(subject.stop_ids), device=logits.device)
    logits = logits.index_fill(-1, stops, float("-inf"))
    return published_log_probs(subject, logits) if arm == BASE else logits.log_softmax(-1)


def _sums(subject: Subject, arm: str, batch: dict[str, Tensor]) -> list[float]:
    prefix = int(batch["prefix"])
    target = batch["labels"][:, prefix + 1 :]
    at = target != IGNORED
    states = hidden(subject, batch["input_ids"], prefix)[:, :-1]
    logs = going_on(subject, arm, unembed(subject, states[at]).float())
    found = logs.gather(1, target[at][:, None])[:, 0]
    return [float(part.sum()) for part in torch.split(found, at.sum(1).tolist())]
