"""What would the model have said if, at one block, its residual had been another?

Many counterfactuals are computed in one pass. What no edit touches is computed once and kept as
keys and values (a *segment*); each counterfactual (a *branch*) goes through the remaining positions
with edits of its own, and a mask lets it see its own prompt and nothing else. A branch equals a
plain forward pass with a hook, at the price of its own positions only (one token where the last
position alone is edited) and of the blocks from the first edit on. Shapes: B branch, K positions of
a branch, D d_model, V vocabulary. Known limit: models whose attention takes no 4-dimensional mask;
`check_packing` refuses them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from offswitch.chat import shared_prefix
from offswitch.errors import UserError
from offswitch.evaluate.scoring import end_log_odds
from offswitch.hooks import Transform, edit, edit_inputs, record, resume
from offswitch.model import Subject, embed, unembed
from offswitch.probe.analysis import Array
from offswitch.subject import attention_outputs

PASS_TOKENS: Final = 384
PASS_KEYS: Final = 768
TOLERANCE: Final = 2e-2


@dataclass(frozen=True)
class Edit:
    """One change in one branch; `first` and `last` count positions within the branch.

    `remove` sets the components along the orthonormal rows `value` [R, D] to `centre` [R] (to zero
    without one); `add` adds `value` [D]; `set` puts `value` [last - first, D] in its place; `head`
    puts `value` [H] into the columns from `column` on of what enters the attention's output
    projection.
    """

    block: int
    kind: Literal["remove", "add", "set", "head"]
    value: Tensor
    first: int = 0
    last: int | None = None
    column: int = 0
    centre: Tensor | None = None


Branch = Sequence[Edit]


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
    """A prompt of which the positions before `tail` are computed.

    `resid` [L, K, D]: what the blocks say at the tail's positions if nothing is edited.
    """

    known: Segment | None
    tail: tuple[int, ...]
    resid: Tensor | None = None

    @property
    def start(self) -> int:
        """The first position of the tail."""
        return self.known.end if self.known else 0


Job = tuple[Prompt, Branch]


def prepare(subject: Subject, rows: Sequence[Sequence[int]], starts: Sequence[int]) -> list[Prompt]:
    """Prompts computed up to `starts`; what all rows begin with is computed once."""
    shared = min(shared_prefix(rows), *starts) if len(rows) > 1 else 0
    opening = _segment(subject, None, rows[0][:shared])
    begun = [
        Prompt(opening, tuple(row[shared:start])) for row, start in zip(rows, starts, strict=True)
    ]
    known: list[Segment | None] = [opening] * len(rows)
    todo = [i for i, prompt in enumerate(begun) if prompt.tail]
    with torch.inference_mode():
        for chosen in _passes([(begun[i], ()) for i in todo]):
            jobs = [(begun[todo[i]], ()) for i in chosen]
            _, past = _run(subject, jobs)
            for i, (first, last) in zip(chosen, _spans(jobs, past), strict=True):
                known[todo[i]] = Segment(shared, _columns(past, first, last), opening)
    return [
        Prompt(segment, tuple(row[start:]))
        for segment, row, start in zip(known, rows, starts, strict=True)
    ]


def with_residuals(subject: Subject, prompts: Sequence[Prompt]) -> list[Prompt]:
    """The prompts with what the blocks say at their tails; it pays from a few branches on."""
    jobs: list[Job] = [(prompt, ()) for prompt in prompts]
    found = []
    with torch.inference_mode(), record(subject.blocks, keep=lambda resid: resid[0]) as seen:
        for chosen in _passes(jobs):
            _run(subject, [jobs[i] for i in chosen])
            whole = torch.stack([seen[block] for block in range(len(seen))])
            lengths = [len(prompts[i].tail) for i in chosen]
            parts = torch.split(whole, lengths, dim=1)
            found += [replace(prompts[i], resid=r) for i, r in zip(chosen, parts, strict=True)]
    return found


def at_last(subject: Subject, rows: Sequence[Sequence[int]]) -> list[Prompt]:
    """Prompts computed up to their last position, where the reply is decided."""
    return with_residuals(subject, prepare(subject, rows, [len(row) - 1 for row in rows]))


def outcomes(subject: Subject, prompts: Sequence[Prompt], branches: Sequence[Branch]) -> Array:
    """Outcomes [B, N, 2] of every branch of every prompt: end log-odds, and halts (0 or 1)."""
    found = job_outcomes(subject, [(p, b) for p, b in product(prompts, branches)])
    by_prompt: Array = found.reshape(len(prompts), len(branches), 2).swapaxes(0, 1)
    return by_prompt


def job_outcomes(subject: Subject, jobs: Sequence[Job]) -> Array:
    """First-token outcomes [jobs, 2]: end log-odds, and whether the branch halts (0 or 1)."""
    stops = torch.tensor(subject.stop_ids, device=subject.device)
    rows: Array = np.empty((len(jobs), 2), dtype=np.float32)
    # Jobs whose first edits lie at like blocks share a pass, which then begins there.
    order = sorted(range(len(jobs)), key=lambda i: _first_block(subject, jobs[i]))
    done = 0
    for logits in each_logits(subject, [jobs[i] for i in order]):
        halts = torch.isin(logits.argmax(-1), stops).float()
        some = torch.stack([end_log_odds(logits, subject.stop_ids), halts], 1).cpu().numpy()
        rows[order[done : done + len(some)]] = some
        done += len(some)
    return rows


def each_logits(subject: Subject, jobs: Sequence[Job]) -> Iterator[Tensor]:
    """Logits [b, V], float32, after the last position of some jobs at a time, in their order."""
    with torch.inference_mode():
        for states in each_states(subject, jobs):
            last = torch.stack([rows_KD[-1] for rows_KD in states])
            yield unembed(subject, last).float()


def each_states(subject: Subject, jobs: Sequence[Job]) -> Iterator[list[Tensor]]:
    """Normed last states [K, D] of some jobs at a time: memory does not grow with their number."""
    for chosen in _passes(jobs):
        some = [jobs[i] for i in chosen]
        states, _ = _run(subject, some)
        yield list(torch.split(states, [len(prompt.tail) for prompt, _ in some]))


def check_packing(subject: Subject, ids: Sequence[int]) -> None:
    """Does an unedited branch say what a plain forward pass says?

    Raises:
        UserError: it does not, so no intervention on this model can be trusted.
    """
    with torch.inference_mode():
        states = subject.backbone(input_ids=torch.tensor([list(ids)], device=subject.device))
        plain = unembed(subject, states.last_hidden_state[0, -1]).float()
        starts = sorted({0, len(ids) // 2, len(ids) - 1})
        prompts = [prepare(subject, [ids], [start])[0] for start in starts]
        nothing = torch.zeros(len(states.last_hidden_state[0, -1]), device=subject.device)
        branches: list[Branch] = [(), (Edit(len(subject.blocks) // 2, "add", nothing),)]
        packed = torch.cat([logits for p in prompts for b in branches
                            for logits in each_logits(subject, [(p, b)])])  # fmt: skip
        worst = float((packed - plain).norm(dim=-1).max() / plain.norm())
    if not worst <= TOLERANCE:
        raise UserError(
            f"{subject.name}: a packed pass differs from a plain one ({worst:.1e}); interventions"
            " on this architecture are not supported"
        )


# --- one packed pass ------------------------------------------------------------------------------


def _passes(jobs: Sequence[Job]) -> Iterator[range]:
    """Consecutive jobs that go into one pass: bounded in tokens, and in keys they look at."""
    first = tokens = keys = 0
    seen: set[int] = set()
    for i, (prompt, _) in enumerate(jobs):
        fresh = sum(s.end - s.start for s in _chain(prompt.known) if id(s) not in seen)
        full = tokens + len(prompt.tail) > PASS_TOKENS or keys + fresh > PASS_KEYS
        if i > first and full:
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


def _run(subject: Subject, jobs: Sequence[Job]) -> tuple[Tensor, DynamicCache]:
    """Normed states [tokens, D] of the jobs' tails, side by side, and the cache after them."""
    segments = list({id(s): s for prompt, _ in jobs for s in _chain(prompt.known)}.values())
    past = _joined(segments)
    device = subject.device
    ids = torch.tensor([[i for prompt, _ in jobs for i in prompt.tail]], device=device)
    places = [prompt.start + k for prompt, _ in jobs for k in range(len(prompt.tail))]
    with _resumed(subject, jobs), _edited(subject, jobs):
        states: Tensor = subject.backbone(
            inputs_embeds=embed(subject, ids),
            attention_mask=_masks(subject, jobs, segments, places),
            position_ids=torch.tensor([places], device=device),
            past_key_values=past,
            use_cache=True,
        ).last_hidden_state
    return states[0], past


def _first_block(subject: Subject, job: Job) -> int:
    """The last block whose output at the tail is what it is without edits, -1 for none."""
    prompt, branch = job
    if prompt.resid is None:
        return -1
    own = (one.block - 1 if one.kind == "head" else one.block for one in branch)
    return min(own, default=len(subject.blocks) - 1)


@contextmanager
def _resumed(subject: Subject, jobs: Sequence[Job]) -> Iterator[None]:
    """Begin where the first edit is: what comes before it is known."""
    block = min(_first_block(subject, job) for job in jobs)
    known = [prompt.resid[block] for prompt, _ in jobs if prompt.resid is not None]
    if block < 0:
        yield
        return
    with resume(subject.blocks, block, torch.cat(known)[None]):
        yield


def _joined(segments: Sequence[Segment]) -> DynamicCache:
    """One cache of several segments; no layer of it forgets what leaves a sliding window."""
    if not segments:
        return DynamicCache()
    layers = zip(*(segment.cache for segment in segments), strict=True)
    return DynamicCache(
        [tuple(torch.cat(part, dim=-2) for part in zip(*layer, strict=True)) for layer in layers]
    )


def _segment(subject: Subject, before: Segment | None, ids: Sequence[int]) -> Segment | None:
    if not ids:
        return before
    with torch.inference_mode():
        _, past = _run(subject, [(Prompt(before, tuple(ids)), ())])
    length = past.get_seq_length()
    start = before.end if before else 0
    return Segment(start, _columns(past, length - len(ids), length), before)


def _columns(past: DynamicCache, first: int, last: int) -> tuple[tuple[Tensor, Tensor], ...]:
    layers: list[Any] = list(past.layers)
    return tuple(
        (layer.keys[..., first:last, :].clone(), layer.values[..., first:last, :].clone())
        for layer in layers
    )


def _spans(jobs: Sequence[Job], past: DynamicCache) -> list[tuple[int, int]]:
    """Where each job's tail lies in the cache after the pass."""
    lengths = [len(prompt.tail) for prompt, _ in jobs]
    first = past.get_seq_length() - sum(lengths)
    found = []
    for length in lengths:
        found.append((first, first + length))
        first += length
    return found


def _masks(
    subject: Subject, jobs: Sequence[Job], segments: Sequence[Segment], places: Sequence[int]
) -> Any:
    """Who sees whom, as an additive mask [1, 1, tokens, keys + tokens]; by kind of attention."""
    device, dtype = subject.device, next(subject.network.parameters()).dtype
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

    def additive(allowed: Tensor) -> Tensor:
        mask = torch.zeros(allowed.shape, dtype=dtype)
        return mask.masked_fill(~allowed, torch.finfo(dtype).min)[None, None].to(device)

    config = subject.causal_lm.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if window is None or kinds == {"full_attention"}:
        return additive(causal)
    near = additive(causal & (distance < int(window)))
    if len(kinds) > 1:
        return {"full_attention": additive(causal), "sliding_attention": near}
    return near


# --- edits within a pass --------------------------------------------------------------------------


def _edited(subject: Subject, jobs: Sequence[Job]) -> ExitStack:
    """Hooks that apply each branch's edits to its own positions of the packed row."""
    blocks: dict[int, list[tuple[range, Edit]]] = {}
    heads: dict[int, list[tuple[range, Edit]]] = {}
    first = 0
    for prompt, branch in jobs:
        positions = range(first, first + len(prompt.tail))
        first = positions.stop
        for one in branch:
            there = heads if one.kind == "head" else blocks
            there.setdefault(one.block, []).append((positions[one.first : one.last], one))
    stack = ExitStack()
    stack.enter_context(edit(subject.blocks, {b: _apply(e) for b, e in blocks.items()}))
    if heads:
        inputs = {block: _apply(edits) for block, edits in heads.items()}
        stack.enter_context(edit_inputs(attention_outputs(subject), inputs))
    return stack


def _apply(edits: Sequence[tuple[range, Edit]]) -> Transform:
    """One block's edits; those of one kind and shape are applied together."""
    alike: dict[tuple[Any, ...], list[tuple[range, Edit]]] = {}
    for positions, one in edits:
        shape = (one.kind, one.column, len(positions), tuple(one.value.shape))
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
        centre = torch.stack([_centre(one) for one in edits]).to(at_BKD)
        return at_BKD - (at_BKD @ value.transpose(1, 2) - centre[:, None]) @ value
    if like.kind == "add":
        return at_BKD + value[:, None]
    if like.kind == "set":
        return value
    after = at_BKD.clone()
    after[..., like.column : like.column + value.shape[-1]] = value[:, None]
    return after


def _centre(one: Edit) -> Tensor:
    return one.value.new_zeros(len(one.value)) if one.centre is None else one.centre
