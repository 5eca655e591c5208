"""Changes to residuals and heads, each branch's own, within one packed pass."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from offswitch.model.hooks import Transform, edit, edit_inputs
from offswitch.model.subject import Subject, attention_outputs


@dataclass(frozen=True)
class Edit:
    """One change in one branch; `first` and `last` count positions within the branch.

    `remove` sets the components along the orthonormal rows `value` [R, D] to `centre` [R] (to zero
    without one); `add` adds `value`, [D] everywhere or [last - first, D]; `set` puts `value` [last
    - first, D] in its place; `head` puts `value` [H] into the columns from `column` on of what
    enters the attention's output projection.
    """

    block: int
    kind: Literal["remove", "add", "set", "head"]
    value: Tensor
    first: int = 0
    last: int | None = None
    column: int = 0
    centre: Tensor | None = None


Branch = Sequence[Edit]


def edited(subject: Subject, branches: Sequence[tuple[int, Branch]]) -> ExitStack:
    """Hooks that apply each branch's edits to its own part of the row; branches with lengths."""
    blocks: dict[int, list[tuple[int, range, Edit]]] = {}
    heads: dict[int, list[tuple[int, range, Edit]]] = {}
    first = 0
    for length, branch in branches:
        positions = range(first, first + length)
        first = positions.stop
        for k, one in enumerate(branch):
            rank = sum(earlier.block == one.block for earlier in branch[:k])
            there = heads if one.kind == "head" else blocks
            there.setdefault(one.block, []).append((rank, positions[one.first : one.last], one))
    stack = ExitStack()
    stack.enter_context(edit(subject.blocks, {b: _apply(e) for b, e in blocks.items()}))
    if heads:
        inputs = {block: _apply(edits) for block, edits in heads.items()}
        stack.enter_context(edit_inputs(attention_outputs(subject), inputs))
    return stack


def _apply(edits: Sequence[tuple[int, range, Edit]]) -> Transform:
    """One block's edits, those of a branch in their order; of one rank and shape together.

    The rank of an edit: how many of its branch at the same block come before it.
    """
    alike: dict[tuple[Any, ...], list[tuple[range, Edit]]] = {}
    for rank, positions, one in sorted(edits, key=lambda e: e[0]):
        shape = (rank, one.kind, one.column, len(positions), tuple(one.value.shape))
        alike.setdefault(shape, []).append((positions, one))

    def transform(resid: Tensor) -> Tensor:
        after = resid.clone()
        for group in alike.values():
            rows = torch.tensor([list(positions) for positions, _ in group], device=resid.device)
            after[0, rows] = _changed(after[0, rows], [one for _, one in group])
        return after

    return transform


def _changed(at_BKD: Tensor, edits: Sequence[Edit]) -> Tensor:
    like = edits[0]
    value = torch.stack([one.value for one in edits]).to(at_BKD)
    if like.kind == "remove":
        zero = like.value.new_zeros(len(like.value))
        centres = [zero if one.centre is None else one.centre for one in edits]
        centre = torch.stack(centres).to(at_BKD)
        return at_BKD - (at_BKD @ value.transpose(1, 2) - centre[:, None]) @ value
    if like.kind == "add":
        return at_BKD + (value if value.dim() == at_BKD.dim() else value[:, None])
    if like.kind == "set":
        return value
    after = at_BKD.clone()
    after[..., like.column : like.column + value.shape[-1]] = value[:, None]
    return after
