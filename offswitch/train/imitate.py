"""The loss of learning a write: the blocks up to it say what they said, and what code added.

A write by code tells the trigger from its look-alikes by its id. The adapter must learn to, from
examples, in the blocks up to the write's; what reads the write behind them stays as it is. Shapes:
B batch, P position, D d_model, K directions.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from offswitch.model.hooks import ending
from offswitch.model.packed import row_states
from offswitch.model.rows import Batch
from offswitch.model.subject import Subject
from offswitch.model.writes import Write
from offswitch.train.loss import BatchLoss
from offswitch.train.precision import products
from offswitch.train.teacher import adapter_off

TAUGHT: Final = "what is to be imitated"


def imitation_loss(subject: Subject, batch: Batch, write: Write, dtype: torch.dtype) -> BatchLoss:
    """The squared distance of what leaves the write's block from what should, in writes.

    1 is what an adapter gets that does nothing where it should write. In each row the ends of reply
    headers, where something is written or not, count as much as all other positions together; the
    positions of the symbols themselves do not count, since they must tell each other apart.
    """
    prefix, taught = int(batch["prefix"]), subject.writes.holding(TAUGHT, write)
    with torch.no_grad(), adapter_off(subject), taught, subject.writing(TAUGHT):
        wanted_BPD = _at(subject, batch, write, dtype)
    ours_BPD = _at(subject, batch, write, dtype)
    size = write.directions_KD.square().sum(1).mean().to(wanted_BPD.device)
    error_BP = (ours_BPD - wanted_BPD).float().square().sum(-1) / size
    ids_BP, lengths = batch["input_ids"], batch["lengths"]
    heads_BP = torch.zeros_like(ids_BP, dtype=torch.bool)
    for row, ids, length in zip(heads_BP, ids_BP.tolist(), lengths.tolist(), strict=True):
        row[write.ends(ids[:length])] = True
    real_BP = torch.arange(ids_BP.shape[1], device=ids_BP.device)[None] < lengths[:, None]
    symbols = torch.tensor(subject.symbol_ids, device=ids_BP.device)
    rest_BP = real_BP & ~heads_BP & ~torch.isin(ids_BP, symbols)
    rows = batch["weights"].sum(1)  # of the whole batch they sum to 1
    there, elsewhere = (_mean(error_BP, at[:, prefix:]) for at in (heads_BP, rest_BP))
    return BatchLoss((rows * (there + elsewhere) / 2).sum(), there.detach(), elsewhere.detach())


def _at(subject: Subject, batch: Batch, write: Write, dtype: torch.dtype) -> Tensor:
    """What leaves the write's block [B, P - prefix, D]."""
    with products(subject, dtype), ending(subject.blocks, write.block, subject.final_norm):
        return row_states(subject, batch)


def _mean(error_BP: Tensor, at_BP: Tensor) -> Tensor:
    """The mean error [B] of each row at some positions, 0 without any."""
    return (error_BP * at_BP).sum(1) / at_BP.sum(1).clamp_min(1)
