"""What do blocks and heads hold at the last position? Read in batches, kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from offswitch.analyses.analysis import Array
from offswitch.model.forward import hidden
from offswitch.model.hooks import Transform, record, record_inputs
from offswitch.model.rows import by_length
from offswitch.model.subject import Subject, attention_outputs
from offswitch.prompts.encode import pad, shared_prefix

BATCH_TOKENS = 1024
Rows = Sequence[Sequence[int]]
Watch = Callable[[Transform], AbstractContextManager[dict[int, Tensor]]]


def last_residuals(subject: Subject, rows: Rows, blocks: Sequence[int]) -> Array:
    """Block outputs [N, L, D] at the last position of each row, of the active arm."""
    chosen = [subject.blocks[block] for block in blocks]
    return _read(subject, rows, lambda keep: record(chosen, keep))


def last_heads(subject: Subject, rows: Rows) -> Array:
    """What the heads give [N, L, heads * width] at the last position, before they are mixed."""
    modules = attention_outputs(subject)
    return _read(subject, rows, lambda keep: record_inputs(modules, keep))


@torch.inference_mode()
def _read(subject: Subject, rows: Rows, watch: Watch) -> Array:
    found: dict[int, Tensor] = {}
    for batch in by_length(rows, BATCH_TOKENS):
        chosen = [rows[i] for i in batch]
        prefix = shared_prefix(chosen) if len(chosen) > 1 else 0
        last = torch.tensor([len(row) - 1 - prefix for row in chosen], device=subject.device)
        with watch(_picking(last)) as seen:
            hidden(subject, torch.tensor(pad(chosen), device=subject.device), prefix)
        stacked = torch.stack([seen[i] for i in range(len(seen))], dim=1).float().cpu()
        found |= dict(zip(batch, stacked, strict=True))
    array: Array = torch.stack([found[i] for i in range(len(rows))]).numpy()
    return array


def _picking(last_B: Tensor) -> Transform:
    """Each row's last position; the pass over a shared prefix, of one row, is overwritten."""

    def keep(values: Tensor) -> Tensor:
        if len(values) != len(last_B):
            return values[:, -1]
        return values[torch.arange(len(last_B), device=values.device), last_B]

    return keep
