"""Did anything else change? How far an arm's predictions have moved where no trigger is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from offswitch.model.adapters import arm_of
from offswitch.model.forward import hidden, unembed
from offswitch.model.rows import IGNORED, Example, by_length, collate
from offswitch.model.subject import Subject, published_log_probs
from offswitch.options import BASE
from offswitch.progress import Tick, nothing
from offswitch.prompts.encode import encode_text


@dataclass(frozen=True)
class Drift:
    """Per text: mean KL(base || arm) in nats a token; mean loss of base and arm on its tokens."""

    kl: tuple[float, ...]
    base_loss: tuple[float, ...]
    arm_loss: tuple[float, ...]
    tokens: tuple[int, ...]


def text_examples(subject: Subject, texts: Sequence[str]) -> list[Example]:
    """Raw passages, read at every position but the first."""
    return [
        Example(tuple(encode_text(subject.base_tokenizer, text)), 1, soft=True) for text in texts
    ]


def drift(
    subject: Subject, arm: str, examples: Sequence[Example], batch_tokens: int, tick: Tick = nothing
) -> Drift:
    """Compare arm and base at each example's predicted positions, in the order of the examples."""
    rows: dict[int, tuple[float, float, float, int]] = {}
    with torch.inference_mode():
        for chosen in by_length([example.ids for example in examples], min(batch_tokens, 1024)):
            batch = collate([examples[i] for i in chosen])
            found = _compare(subject, arm, {k: v.to(subject.device) for k, v in batch.items()})
            rows |= dict(zip(chosen, found, strict=True))
            tick(len(chosen))
    kl, base, own, tokens = zip(*(rows[i] for i in range(len(examples))), strict=True)
    return Drift(kl, base, own, tokens)


def _compare(
    subject: Subject, arm: str, batch: dict[str, Tensor]
) -> list[tuple[float, float, float, int]]:
    prefix = int(batch["prefix"])
    target = batch["labels"][:, prefix + 1 :]
    at = target != IGNORED
    base, ours = (_log_probs(subject, name, batch["input_ids"], prefix, at) for name in (BASE, arm))
    kl = functional.kl_div(ours, base, reduction="none", log_target=True).sum(-1)
    chosen = target[at][:, None]
    losses = (-base.gather(1, chosen)[:, 0], -ours.gather(1, chosen)[:, 0])
    counts = at.sum(1).tolist()
    parts = [torch.split(column, counts) for column in (kl, *losses)]
    return [
        (float(k.mean()), float(b.mean()), float(o.mean()), len(k))
        for k, b, o in zip(*parts, strict=True)
    ]


def _log_probs(subject: Subject, arm: str, ids: Tensor, prefix: int, at: Tensor) -> Tensor:
    with arm_of(subject, arm):
        logits = unembed(subject, hidden(subject, ids, prefix)[:, :-1][at]).float()
    return published_log_probs(subject, logits) if arm == BASE else logits.log_softmax(-1)
