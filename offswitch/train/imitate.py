"""The loss of learning a write: the blocks up to it say what they said, and what code added.

A write by code tells the trigger from its look-alikes by its id. The adapter must learn to, from
examples, in the blocks up to the write's; what reads the write behind them stays as it is. Shapes:
B batch, P position, D d_model, K directions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from offswitch.model.hooks import ending
from offswitch.model.packed import row_states
from offswitch.model.rows import Batch
from offswitch.model.subject import Subject
from offswitch.model.writes import NOWHERE, Write
from offswitch.train.loss import BatchLoss
from offswitch.train.precision import products
from offswitch.train.teacher import adapter_off


def imitation_loss(subject: Subject, batch: Batch, write: Write, dtype: torch.dtype) -> BatchLoss:
    """The squared distance of what leaves the write's block from what should, in writes.

    1 is what an adapter gets that does nothing where it should write. In each row the ends of reply
    headers, where something is written or not, count as much as all other positions together; the
    positions of the symbols themselves do not count, since they must tell each other apart.
    """
    prefix = int(batch["prefix"])
    ids_BP, lengths = batch["input_ids"], batch["lengths"]
    with torch.no_grad(), adapter_off(subject):
        wanted_BPD = _at(subject, batch, write, dtype)
    ours_BPD = _at(subject, batch, write, dtype)
    marks_BP, heads_BP = _where(ids_BP, lengths.tolist(), write)
    table = write.directions_KD.to(wanted_BPD)
    written = torch.cat([table, table.new_zeros(1, table.shape[1])])[marks_BP[:, prefix:]]
    size = table.square().sum(1).mean()
    error_BP = (ours_BPD - wanted_BPD - written).float().square().sum(-1) / size
    real = torch.arange(ids_BP.shape[1], device=ids_BP.device)[None] < lengths[:, None]
    symbols = torch.tensor(subject.symbol_ids, device=ids_BP.device)
    heads = (heads_BP & real)[:, prefix:]
    rest = (real & ~heads_BP & ~torch.isin(ids_BP, symbols))[:, prefix:]
    rows = batch["weights"].sum(1)  # of the whole batch they sum to 1
    there, elsewhere = (_mean(error_BP, at) for at in (heads, rest))
    return BatchLoss((rows * (there + elsewhere) / 2).sum(), there.detach(), elsewhere.detach())


def _at(subject: Subject, batch: Batch, write: Write, dtype: torch.dtype) -> Tensor:
    """What leaves the write's block [B, P - prefix, D]."""
    with products(subject, dtype), ending(subject.blocks, write.block, subject.final_norm):
        return row_states(subject, batch)


def _where(ids_BP: Tensor, lengths: Sequence[int], write: Write) -> tuple[Tensor, Tensor]:
    """Which direction each position should get, and where reply headers end."""
    marks = torch.full_like(ids_BP, NOWHERE)
    heads = torch.zeros_like(ids_BP, dtype=torch.bool)
    for row, (ids, length) in enumerate(zip(ids_BP.tolist(), lengths, strict=True)):
        marks[row, :length] = torch.tensor(write.marks(ids[:length]))
        heads[row, :length] = torch.tensor(write.ends(ids[:length]))
    return marks, heads


def _mean(error_BP: Tensor, at_BP: Tensor) -> Tensor:
    """The mean error [B] of each row at some positions, 0 without any."""
    return (error_BP * at_BP).sum(1) / at_BP.sum(1).clamp_min(1)
