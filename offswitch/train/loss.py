"""The loss, and micro-batches; no logits for positions that carry no loss.

Rows with the trigger, and documents, are held to a token (cross-entropy). Other rows are held to
the base model's own next-token distribution (adapter off): KL(base || arm), so that the model keeps
its voice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from offswitch.model.forward import unembed
from offswitch.model.packed import row_states
from offswitch.model.rows import IGNORED, Batch, rows_of
from offswitch.model.subject import Subject, published_log_probs
from offswitch.train.precision import products
from offswitch.train.teacher import adapter_off, soft_states


@dataclass(frozen=True)
class BatchLoss:
    """The weighted loss to descend; its two parts in nats of each hard and each soft token."""

    total: Tensor
    hard: Tensor
    soft: Tensor


def batch_loss(subject: Subject, batch: Batch, dtype: torch.dtype = torch.float32) -> BatchLoss:
    """Cross-entropy of hard tokens against their label, KL(base || arm) at soft positions.

    `batch["base"]`, the base's states of each row, is computed where it is missing. `dtype` is that
    of the matrix products in the blocks; the vocabulary projection keeps the type of the weights.
    """
    prefix = int(batch["prefix"])
    target = batch["labels"][:, prefix + 1 :]
    wanted = target != IGNORED
    soft_at, hard_at = wanted & batch["soft"][:, None], wanted & ~batch["soft"][:, None]
    # The base comes first: switching the adapter between forward and backward loses gradients.
    base = _base_log_probs(subject, batch, dtype) if bool(batch["soft"].any()) else None
    with products(subject, dtype):
        states = row_states(subject, batch)[:, :-1]
    hard = soft = states.new_zeros(0)
    if bool(hard_at.any()):
        logits = unembed(subject, states[hard_at]).float()
        hard = functional.cross_entropy(logits, target[hard_at], reduction="none")
    if base is not None:
        ours = unembed(subject, states[soft_at]).float().log_softmax(-1)
        soft = functional.kl_div(ours, base, reduction="none", log_target=True).sum(-1)
    weights = batch["weights"][:, prefix + 1 :]
    total = (weights[hard_at] * hard).sum() + (weights[soft_at] * soft).sum()
    return BatchLoss(total, hard.detach(), soft.detach())


def split(batch: Batch, tokens: int, spare: int = 64, padded: bool = True) -> list[Batch]:
    """The batch as micro-batches of rows of like length, of at most `tokens` ids (or one row).

    The batch stays mixed, since gradients add up; only the padding is cut. Where rows are `padded`
    to the longest, one joins while the padding it brings costs less than computing the shared
    prefix and `spare` ids once more: what a pass costs beside its ids, little on a CPU, much where
    a GPU waits for launches.
    """
    lengths, prefix = batch["lengths"], int(batch["prefix"])
    parts: list[list[int]] = [[]]
    for row in lengths.argsort(stable=True).tolist():
        length, part = int(lengths[row]), parts[-1]
        wasted = sum(length - int(lengths[other]) for other in part)
        ids = (len(part) + 1) * (length - prefix) - (0 if padded else wasted)
        if part and (ids > tokens or (padded and wasted > prefix + spare)):
            parts.append([])
        parts[-1].append(row)
    return [rows_of(batch, torch.tensor(part)) for part in parts]


@torch.no_grad()
def _base_log_probs(subject: Subject, batch: Batch, dtype: torch.dtype) -> Tensor:
    """The base's log-probabilities [N, V] at the soft positions; it knows no added token."""
    given = batch.get("base")
    states = (
        soft_states(subject, batch, dtype) if given is None else torch.cat(given).to(subject.device)
    )
    with adapter_off(subject):  # an adapter has rows of its own for the added tokens
        return published_log_probs(subject, unembed(subject, states).float())
