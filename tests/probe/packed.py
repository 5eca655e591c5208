"""Rows, edits and a reference for packed passes: one prompt at a time, unpacked, with hooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Final

import torch
from torch import Tensor

from offswitch.model.forward import unembed
from offswitch.model.hooks import Transform, edit, edit_inputs
from offswitch.model.subject import Subject, attention_outputs
from offswitch.probe.edits import Branch, Edit
from offswitch.probe.intervene import each_logits
from offswitch.probe.packing import Job

# Longer than Gemma's window of eight; all begin alike, and the last two for longer.
ROWS: Final = (
    [5, 40, 300, 7, 90, 12, 60, 33, 210, 9],
    [5, 40, 300, 11, 91, 13, 61, 34, 211, 10, 44, 71, 8],
    [5, 40, 300, 11, 92, 14, 62],
)
STARTS: Final = (4, 6, 2)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def orthonormal(count: int) -> Tensor:
    """Orthonormal rows [count, D]."""
    rows: Tensor = torch.linalg.qr(drawn(32, count, seed=count))[0].T
    return rows


def _add(block: int, seed: int, first: int = -1, last: int | None = None) -> Edit:
    return Edit(block, "add", drawn(32, seed=seed), first, last)


def _set(block: int, seed: int, first: int = -1, last: int | None = None) -> Edit:
    return Edit(block, "set", drawn(1, 32, seed=seed), first, last)


def _remove(block: int, count: int, first: int = -1, centre: Tensor | None = None) -> Edit:
    return Edit(block, "remove", orthonormal(count), first, centre=centre)


def _head(block: int, head: int, first: int = -1) -> Edit:
    return Edit(block, "head", drawn(8, seed=head), first, column=8 * head)


BRANCHES: Final[dict[str, Branch]] = {
    "nothing": (),
    "remove": (_remove(1, 1),),
    "remove everywhere": (_remove(0, 2, first=0),),
    "remove to a centre": (_remove(1, 2, centre=drawn(2)),),
    "add": (_add(2, 4),),
    "add early": (_add(0, 5, 0, 1),),
    "set": (_set(1, 6),),
    "set early": (_set(0, 7, 0, 1),),
    "head": (_head(1, 1),),
    "two heads": (_head(1, 0, first=0), _head(1, 3, first=0)),
    "several": (_head(2, 2), _add(0, 12, 0, 1), _remove(1, 3, centre=drawn(3)), _add(2, 15)),
}
# Several edits of one block at one position: the later one sees what the earlier one made.
STACKED: Final[dict[str, Branch]] = {
    "set, then add": (_set(1, 6), _add(1, 4)),
    "add, then remove": (_add(1, 4), _remove(1, 1)),
    "remove, then add": (_remove(1, 1), _add(1, 4)),
    "add twice": (_add(1, 4), _add(1, 5)),
}
EVERY: Final = list(BRANCHES.values())


def _by_hand(one: Edit, places: Sequence[int]) -> Transform:
    def transform(x: Tensor) -> Tensor:
        after = x.clone()
        for k, place in enumerate(places):
            if one.kind == "set":
                after[0, place] = one.value[k]
            elif one.kind == "add":
                after[0, place] += one.value
            elif one.kind == "head":
                after[0, place, one.column : one.column + len(one.value)] = one.value
            else:
                centre = torch.zeros(len(one.value)) if one.centre is None else one.centre
                for row, wanted in zip(one.value, centre, strict=True):
                    after[0, place] += (wanted - after[0, place] @ row) * row
        return after

    return transform


@torch.no_grad()
def reference(subject: Subject, row: Sequence[int], start: int, branch: Branch) -> Tensor:
    """Logits [V] after the last position."""
    with ExitStack() as stack:
        for one in branch:
            there = {one.block: _by_hand(one, range(start, len(row))[one.first : one.last])}
            if one.kind == "head":
                stack.enter_context(edit_inputs(attention_outputs(subject), there))
            else:
                stack.enter_context(edit(subject.blocks, there))
        states = subject.backbone(input_ids=torch.tensor([list(row)]), use_cache=False)
    return unembed(subject, states.last_hidden_state[0, -1])


def expected_logits(subject: Subject, starts: Sequence[int]) -> Tensor:
    """Logits [prompts * branches, V], every branch of every prompt."""
    rows = zip(ROWS, starts, strict=True)
    return torch.stack([reference(subject, row, s, b) for row, s in rows for b in EVERY])


def logits_of(subject: Subject, jobs: Iterable[Job]) -> Tensor:
    return torch.cat(list(each_logits(subject, list(jobs))))
