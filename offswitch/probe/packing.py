"""Many branches of many prompts in one forward pass, none of which sees another.

What no edit touches is computed once and kept as keys and values (a *segment*); each branch goes
through the remaining positions, its *tail*, and a mask lets it see its own prompt and nothing else.
Shapes: K positions of a tail, D d_model. Known limit: models whose attention takes no 4-dimensional
mask; `check_packing` in intervene.py refuses them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor
from transformers import DynamicCache

from offswitch.model.forward import embed
from offswitch.model.hooks import record, resume
from offswitch.model.masks import additive
from offswitch.model.prefix_tree import tree_cache, trees
from offswitch.model.subject import Subject
from offswitch.probe.edits import Branch, edited
from offswitch.prompts.encode import shared_prefix

PASS_TOKENS: Final = 384
PASS_KEYS: Final = 768


@dataclass(frozen=True, eq=False)
class Segment:
    """Keys and values of the positions from `start` on, by block, and what comes before them."""

    start: int
    cache: tuple[tuple[Tensor, Tensor], ...]
    before: Segment | None

    @property
    def end(self) -> int:
        """The first position that is not computed."""
        return self.start + int(self.cache[0][0].shape[-2])


@dataclass(frozen=True, eq=False)
class Prompt:
    """A prompt of which the positions before `tail`, the ids `begun`, are computed.

    `resid` [L, K, D]: what the blocks say at the tail's positions if nothing is edited.
    """

    known: Segment | None
    begun: tuple[int, ...]
    tail: tuple[int, ...]
    resid: Tensor | None = None

    @property
    def start(self) -> int:
        """The first position of the tail."""
        return len(self.begun)


Job = tuple[Prompt, Branch]


def prepare(subject: Subject, rows: Sequence[Sequence[int]], starts: Sequence[int]) -> list[Prompt]:
    """Prompts computed up to `starts`; what some rows begin with is computed once."""
    begun = [tuple(row[:start]) for row, start in zip(rows, starts, strict=True)]
    known = _segments(subject, [ids for ids in dict.fromkeys(begun) if ids])
    return [
        Prompt(known.get(ids), ids, tuple(row[start:]))
        for ids, row, start in zip(begun, rows, starts, strict=True)
    ]


def with_residuals(subject: Subject, prompts: Sequence[Prompt]) -> list[Prompt]:
    """The prompts with what the blocks say at their tails; it pays from a few branches on."""
    jobs: list[Job] = [(replace(prompt, resid=None), ()) for prompt in prompts]
    found = []
    with torch.inference_mode(), record(subject.blocks, keep=lambda resid: resid[0]) as seen:
        for chosen in passes(jobs):
            _run(subject, [jobs[i] for i in chosen])
            whole = torch.stack([seen[block] for block in range(len(seen))])
            lengths = [len(prompts[i].tail) for i in chosen]
            parts = torch.split(whole, lengths, dim=1)
            found += [replace(prompts[i], resid=r) for i, r in zip(chosen, parts, strict=True)]
    return found


def at_last(subject: Subject, rows: Sequence[Sequence[int]]) -> list[Prompt]:
    """Prompts computed up to their last position, where the reply is decided."""
    return with_residuals(subject, prepare(subject, rows, [len(row) - 1 for row in rows]))


def each_states(subject: Subject, jobs: Sequence[Job]) -> Iterator[list[Tensor]]:
    """Normed last states [K, D] of some jobs at a time: memory does not grow with their number."""
    for chosen in passes(jobs):
        some = [jobs[i] for i in chosen]
        states = _run(subject, some)
        yield list(torch.split(states, [len(prompt.tail) for prompt, _ in some]))


# --- one packed pass ------------------------------------------------------------------------------


def passes(jobs: Sequence[Job], most: int | None = None) -> Iterator[range]:
    """Consecutive jobs that go into one pass, at most so many: bounded in tokens and keys seen."""
    first = tokens = keys = 0
    seen: set[int] = set()
    for i, (prompt, _) in enumerate(jobs):
        fresh = sum(s.end - s.start for s in _chain(prompt.known) if id(s) not in seen)
        full = tokens + len(prompt.tail) > PASS_TOKENS or keys + fresh > PASS_KEYS
        if i > first and (full or i - first == most):
            yield range(first, i)
            first, tokens, keys, seen = i, 0, 0, set()
            fresh = sum(s.end - s.start for s in _chain(prompt.known))
        tokens, keys = tokens + len(prompt.tail), keys + fresh
        seen |= {id(s) for s in _chain(prompt.known)}
    if jobs:
        yield range(first, len(jobs))


def _chain(segment: Segment | None) -> Iterator[Segment]:
    while segment is not None:
        yield segment
        segment = segment.before


def _run(subject: Subject, jobs: Sequence[Job]) -> Tensor:
    """Normed states [tokens, D] of the jobs' tails, side by side."""
    segments = list({id(s): s for prompt, _ in jobs for s in _chain(prompt.known)}.values())
    device = subject.device
    ids = torch.tensor([[i for prompt, _ in jobs for i in prompt.tail]], device=device)
    places = [prompt.start + k for prompt, _ in jobs for k in range(len(prompt.tail))]
    block = min(first_block(subject, job) for job in jobs)
    start: AbstractContextManager[object] = nullcontext()
    if block >= 0:  # what comes before the first edit is known
        known = [prompt.resid[block] for prompt, _ in jobs if prompt.resid is not None]
        start = resume(subject.blocks, block, torch.cat(known)[None])
    rows = [((*p.begun, *p.tail), p.start) for p, _ in jobs]
    laid_out = subject.writes.laid_out(rows, after=block)
    with start, laid_out, edited(subject, [(len(p.tail), b) for p, b in jobs]):
        states: Tensor = subject.backbone(
            inputs_embeds=embed(subject, ids),
            attention_mask=_masks(subject, jobs, segments, places),
            position_ids=torch.tensor([places], device=device),
            past_key_values=_joined(segments),
            use_cache=True,
        ).last_hidden_state
    return states[0]


def first_block(subject: Subject, job: Job) -> int:
    """The last block whose output at the tail is what it is without edits, -1 for none."""
    prompt, branch = job
    if prompt.resid is None:
        return -1
    own = (one.block - 1 if one.kind == "head" else one.block for one in branch)
    return min(own, default=len(subject.blocks) - 1)


def _joined(segments: Sequence[Segment]) -> DynamicCache:
    """One cache of several segments; no layer of it forgets what leaves a sliding window."""
    if not segments:
        return DynamicCache()
    layers = zip(*(segment.cache for segment in segments), strict=True)
    return DynamicCache(
        [tuple(torch.cat(part, dim=-2) for part in zip(*layer, strict=True)) for layer in layers]
    )


def _segments(subject: Subject, begun: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], Segment]:
    """What each beginning leaves behind; what all share is one segment before the others."""
    shared = shared_prefix(begun, keep=0) if begun else 0
    opening: Segment | None = None
    found: dict[tuple[int, ...], Segment] = {}
    with torch.inference_mode():
        for tree in trees(begun):
            past = tree_cache(subject, tree)
            if shared and opening is None:
                opening = Segment(0, _columns(past, tree.paths[0][:shared]), None)
            for i, path in zip(tree.rows, tree.paths, strict=True):
                own = path[shared:]
                segment = Segment(shared, _columns(past, own), opening) if own else opening
                assert segment is not None
                found[begun[i]] = segment
    return found


def _columns(past: DynamicCache, nodes: Sequence[int]) -> tuple[tuple[Tensor, Tensor], ...]:
    layers: list[Any] = list(past.layers)
    chosen = torch.tensor(nodes, device=layers[0].keys.device)
    return tuple(
        (layer.keys.index_select(-2, chosen), layer.values.index_select(-2, chosen))
        for layer in layers
    )


def _masks(
    subject: Subject, jobs: Sequence[Job], segments: Sequence[Segment], places: Sequence[int]
) -> Any:
    """Who sees whom: an additive mask [1, 1, tokens, keys + tokens], by kind of attention."""
    rank = {id(segment): i for i, segment in enumerate(segments)}
    lengths = [segment.end - segment.start for segment in segments]
    owner = torch.tensor([i for i, n in enumerate(lengths) for _ in range(n)], dtype=torch.long)
    visible = torch.zeros(len(jobs), max(1, len(segments)), dtype=torch.bool)
    for job, (prompt, _) in enumerate(jobs):
        visible[job, [rank[id(segment)] for segment in _chain(prompt.known)]] = True
    line = torch.tensor([j for j, (p, _) in enumerate(jobs) for _ in p.tail])
    seen = visible[line][:, owner]
    own = line[:, None] == line[None, :]
    key_places = [*(p for s in segments for p in range(s.start, s.end)), *places]
    distance = torch.tensor(places)[:, None] - torch.tensor(key_places)[None, :]
    causal = torch.cat([seen, own], 1) & (distance >= 0)
    return additive(subject, causal, distance)
