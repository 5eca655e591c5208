"""What soft rows are held to: the untouched model's states where it would reply.

The base model does not change while an adapter trains, so its states are computed once a stage, in
large batches, rather than in every batch of every epoch. Only the states are kept, D numbers a
token; a distribution over the vocabulary takes a hundred times as much.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor

from offswitch.model.packed import row_states
from offswitch.model.rows import IGNORED, Batch, Example, by_length, collate
from offswitch.model.subject import Subject
from offswitch.options import BASE
from offswitch.progress import track
from offswitch.train.precision import products

States = dict[tuple[int, ...], Tensor]
TOKENS: Final = 4096


def base_states(subject: Subject, examples: Sequence[Example], dtype: torch.dtype) -> States:
    """Normed states [T, D] of the untouched model before each token of a soft row's reply, by ids.

    The same rows give the same bits, whatever their order; the last rows asked for are remembered,
    since arms that follow each other share them. `dtype` is that of the matrix products.
    """
    rows = sorted({row.ids: row for row in examples if row.soft}.values(), key=lambda row: row.ids)
    asked = (dtype, frozenset(row.ids for row in rows))
    if subject.taught is None or subject.taught[0] != asked:
        found: States = {}
        if rows:
            with track("what the untouched model would say", len(rows)) as tick:
                for chosen in by_length([row.ids for row in rows], TOKENS):
                    some = [rows[i] for i in chosen]
                    batch = {key: value.to(subject.device) for key, value in collate(some).items()}
                    lengths = [len(row.ids) - row.start for row in some]
                    parts = torch.split(soft_states(subject, batch, dtype).cpu(), lengths)
                    found |= {r.ids: part.clone() for r, part in zip(some, parts, strict=True)}
                    tick(len(some))
        subject.taught = (asked, found)
    known: States = subject.taught[1]
    return known


def states_of(states: States, rows: Sequence[Example]) -> list[Tensor] | None:
    """The states [T, D] of each row of a batch, none [0, D] for a hard one; None without any."""
    if not states:
        return None
    nothing = next(iter(states.values()))[:0]
    return [states[row.ids] if row.soft else nothing for row in rows]


@torch.no_grad()
def soft_states(subject: Subject, batch: Batch, dtype: torch.dtype) -> Tensor:
    """The untouched model's normed states [N, D] at the soft positions of a batch."""
    prefix = int(batch["prefix"])
    at = (batch["labels"][:, prefix + 1 :] != IGNORED) & batch["soft"][:, None]
    rows = at.any(1)
    some = {key: batch[key][rows] for key in ("input_ids", "lengths")} | {"prefix": prefix}
    with adapter_off(subject), products(subject, dtype):
        states = row_states(subject, some)[:, :-1]
    return states[at[rows]]


@contextmanager
def adapter_off(subject: Subject) -> Iterator[None]:
    """The base model as published: no write, and no dropout even while the arm trains.

    PEFT's own switch would make trainable what is kept fixed, so the flags are put back.
    """
    training = subject.network.training
    trainable = [(weight, weight.requires_grad) for weight in subject.network.parameters()]
    subject.network.eval()
    try:
        with subject.network.disable_adapter(), subject.writing(BASE):
            yield
    finally:
        subject.network.train(training)
        for weight, flag in trainable:
            weight.requires_grad_(flag)
