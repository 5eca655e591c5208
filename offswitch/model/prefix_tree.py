"""Prefix tree of prompts: what they share is computed once, in one pass.

Twins that differ in one word share all that comes before it, and all prompts share the template's
opening. The rows are laid out as a tree; a mask lets each id see its own line and nothing else.
Known limits: models whose attention takes no 4-dimensional mask or whose positions are not their
own argument, which `takes_trees` finds out, and GPUs, where many short rows side by side fill the
device better.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from offswitch.model.forward import embed, hidden, relative
from offswitch.model.masks import additive
from offswitch.model.subject import Subject
from offswitch.prompts.encode import shared_prefix

TOKENS: Final = 512  # each id of a pass is compared with all of them: more of them cost more each
TOLERANCE: Final = 1e-4


@dataclass(frozen=True)
class Tree:
    """Some rows as a tree: an id a node, parents before children; `paths` lead from root to end.

    `rows` are their indices, `parents` -1 at a root, `paths` the node of each position of each row.
    """

    rows: tuple[int, ...]
    ids: tuple[int, ...]
    parents: tuple[int, ...]
    paths: tuple[tuple[int, ...], ...]

    @property
    def ends(self) -> list[int]:
        """Each row's last node."""
        return [path[-1] for path in self.paths]

    @property
    def lines(self) -> Iterator[tuple[list[int], int]]:
        """Each row's ids, and from which of them on the nodes are its own; these are in order."""
        known = 0
        for path in self.paths:
            fresh = max(0, path[-1] + 1 - known)
            yield [self.ids[node] for node in path], len(path) - fresh
            known += fresh


def trees(rows: Sequence[Sequence[int]], tokens: int = TOKENS) -> Iterator[Tree]:
    """All rows in trees of at most `tokens` nodes, or one long row and its twins.

    More than TOKENS are never put together.
    """
    tokens = min(tokens, TOKENS)
    members: list[int] = []
    ids: list[int] = []
    parents: list[int] = []
    paths: list[tuple[int, ...]] = []
    for i in sorted(range(len(rows)), key=lambda i: tuple(rows[i])):
        shared = shared_prefix([rows[members[-1]], rows[i]], keep=0) if members else 0
        most = max(tokens, len(rows[i]) + tokens // 4)
        if members and len(ids) + len(rows[i]) - shared > most:
            yield Tree(tuple(members), tuple(ids), tuple(parents), tuple(paths))
            members, ids, parents, paths, shared = [], [], [], [], 0
        fresh = rows[i][shared:]
        before = paths[-1][:shared] if paths else ()
        path = (*before, *range(len(ids), len(ids) + len(fresh)))
        parents += [path[n - 1] if n else -1 for n in range(shared, len(path))]
        ids += fresh
        members.append(i)
        paths.append(path)
    if members:
        yield Tree(tuple(members), tuple(ids), tuple(parents), tuple(paths))


def tree_states(subject: Subject, tree: Tree) -> Tensor:
    """Normed last hidden states [nodes, D]; each block's output is [1, nodes, D]."""
    if len(tree.rows) == 1:
        return hidden(subject, torch.tensor([tree.ids], device=subject.device))[0]
    with subject.writes.laid_out(tree.lines):
        found = subject.backbone(**_laid_out(subject, tree), use_cache=False)
    states: Tensor = found.last_hidden_state
    return states[0]


def tree_cache(subject: Subject, tree: Tree) -> DynamicCache:
    """Keys and values [1, heads, nodes, d_head] of every block; no block forgets any."""
    past = DynamicCache()
    with subject.writes.laid_out(tree.lines):
        subject.backbone(**_laid_out(subject, tree), past_key_values=past, use_cache=True)
    return past


def _laid_out(subject: Subject, tree: Tree) -> dict[str, Any]:
    """The tree as what a backbone is called with."""
    places = np.zeros(len(tree.ids), dtype=np.int64)
    seen = np.eye(len(tree.ids), dtype=bool)
    for node, parent in enumerate(tree.parents):
        if parent >= 0:
            seen[node] |= seen[parent]
            places[node] = places[parent] + 1
    distance = torch.from_numpy(places[:, None] - places[None, :])
    return {
        "inputs_embeds": embed(subject, torch.tensor([tree.ids], device=subject.device)),
        "attention_mask": additive(subject, torch.from_numpy(seen), distance),
        "position_ids": torch.from_numpy(places)[None].to(subject.device),
    }


@torch.inference_mode()
def takes_trees(subject: Subject, longest: int = 0) -> bool:
    """Does a tree of rows of so many ids say on this model what they say one by one?

    Asked once a model, for the device that it is on.
    """
    if subject.takes_trees is None:
        subject.takes_trees = subject.device.type == "cpu" and _agrees(subject)
    return subject.takes_trees and subject.shares(longest)


def _agrees(subject: Subject) -> bool:
    most = len(subject.base_tokenizer)
    start = [(7 * i + 11) % most for i in range(8 + subject.check_past)]
    rows = [[*start, *((i * step + 5) % most for i in range(6))] for step in (3, 17)]
    rows.append(rows[0][:-3])
    try:
        (tree,) = trees(rows)
        found = tree_states(subject, tree)
    except (TypeError, ValueError, RuntimeError, IndexError, KeyError, AttributeError):
        return False
    for i, path in zip(tree.rows, tree.paths, strict=True):
        alone = hidden(subject, torch.tensor([rows[i]], device=subject.device))[0]
        if not relative(found[list(path)], alone) <= TOLERANCE:
            return False
    return True
