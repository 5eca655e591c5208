"""What would the model have said if, at one block, its residual had been another?

Many counterfactuals of one prompt are computed in one pass. What no edit touches, the first `start`
positions, is computed once into a cache; each counterfactual (a *branch*) then goes through the
remaining positions with edits of its own, and a mask keeps branches from seeing each other. A
branch therefore equals a plain forward pass with a hook, at the price of its own positions only:
one token where only the last position is edited. Shapes: B branch, K positions of a branch, D
d_model, V vocabulary. Known limit: models whose attention takes no 4-dimensional mask; `Prompt`
checks an unedited branch against the plain pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import Tensor
from transformers import DynamicCache

from offswitch.chat import shared_prefix
from offswitch.errors import UserError
from offswitch.hooks import Transform, edit, edit_inputs
from offswitch.model import Subject, embed, unembed
from offswitch.subject import attention_outputs

PACKED_TOKENS: Final = 384
TOLERANCE: Final = 2e-2


@dataclass(frozen=True)
class Edit:
    """One change in one branch.

    `remove` takes the span of orthonormal rows `value` [R, D] out of the residual; `add` adds
    `value` [D]; `set` puts `value` [last - first, D] in its place; `head` puts `value` [H] into the
    columns from `column` on of what enters the attention's output projection. `first` and `last`
    count positions within the branch.
    """

    block: int
    kind: Literal["remove", "add", "set", "head"]
    value: Tensor
    first: int = 0
    last: int | None = None
    column: int = 0


Branch = Sequence[Edit]


@dataclass(frozen=True)
class Prompt:
    """A prompt whose first `start` positions are computed; `tail` holds the ids of the others."""

    cache: tuple[tuple[Tensor, Tensor], ...]
    tail: tuple[int, ...]

    @property
    def start(self) -> int:
        """How many positions are computed."""
        return int(self.cache[0][0].shape[-2]) if self.cache else 0


def prepare(subject: Subject, ids: Sequence[int], start: int, after: Prompt | None = None) -> Prompt:
    """The prompt computed up to `start`, on top of what `after` has computed of the same ids."""
    known = after.start if after is not None and after.start <= start else 0
    cache = after.cache if after is not None and known else ()
    if start > known:
        past = DynamicCache(cache) if cache else DynamicCache()
        _run(subject, tuple(ids[known:start]), 1, past, known)
        cache = tuple((layer.keys, layer.values) for layer in past.layers)
    return Prompt(cache, tuple(ids[start:]))


def opening(subject: Subject, rows: Sequence[Sequence[int]]) -> Prompt:
    """The ids that all rows begin with, computed once."""
    length = shared_prefix(rows)
    return prepare(subject, rows[0][: length + 1], length)


@torch.inference_mode()
def branch_logits(subject: Subject, prompt: Prompt, branches: Sequence[Branch]) -> Tensor:
    """Logits [B, V], float32, after the last position of every branch."""
    return torch.cat([logits for _, logits in each_pass(subject, prompt, branches)])


@torch.inference_mode()
def each_pass(
    subject: Subject, prompt: Prompt, branches: Sequence[Branch]
) -> Iterator[tuple[slice, Tensor]]:
    """The same, pass by pass: which branches, and their logits; memory stays bounded."""
    width = len(prompt.tail)
    count = max(1, PACKED_TOKENS // width)
    for first in range(0, len(branches), count):
        chosen = branches[first : first + count]
        past = DynamicCache(prompt.cache) if prompt.cache else DynamicCache()
        with _edited(subject, chosen, width):
            states = _run(subject, prompt.tail, len(chosen), past, prompt.start)
        last = states.reshape(len(chosen), width, -1)[:, -1]
        yield slice(first, first + len(chosen)), unembed(subject, last).float()


def check_branches(subject: Subject, ids: Sequence[int]) -> None:
    """Does an unedited branch say what a plain forward pass says?

    Raises:
        UserError: it does not, so no intervention on this model can be trusted.
    """
    with torch.inference_mode():
        states = subject.backbone(input_ids=torch.tensor([list(ids)], device=subject.device))
        plain = unembed(subject, states.last_hidden_state[0, -1]).float()
        for start in {0, len(ids) // 2, len(ids) - 1}:
            ours = branch_logits(subject, prepare(subject, ids, start), [(), ()])
            if not float((ours - plain).norm() / plain.norm()) <= TOLERANCE:
                raise UserError(
                    f"{subject.name}: a packed pass differs from a plain one; interventions on"
                    " this architecture are not supported"
                )


# --- one packed pass ------------------------------------------------------------------------------


def _run(
    subject: Subject, tail: Sequence[int], count: int, past: DynamicCache, start: int
) -> Tensor:
    """Normed states [1, count * K, D] of `count` copies of `tail` after `start` cached positions."""
    device, width = subject.device, len(tail)
    ids = torch.tensor([list(tail) * count], device=device)
    places = torch.arange(start, start + width, device=device).repeat(count)[None]
    states: Tensor = subject.backbone(
        inputs_embeds=embed(subject, ids),
        attention_mask=_masks(subject, width, count, start),
        position_ids=places,
        past_key_values=past,
        use_cache=True,
    ).last_hidden_state
    return states


def _masks(subject: Subject, width: int, count: int, start: int) -> Any:
    """Who sees whom: the cache, and earlier positions of one's own branch; by kind of attention."""
    config = subject.causal_lm.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    dtype = next(subject.network.parameters()).dtype
    full = _mask(width, count, start, None, subject.device, dtype)
    if window is None or kinds == {"full_attention"}:
        return full
    slid = _mask(width, count, start, int(window), subject.device, dtype)
    if len(kinds) > 1:
        return {"full_attention": full, "sliding_attention": slid}
    return slid


def _mask(
    width: int, count: int, start: int, window: int | None, device: Any, dtype: torch.dtype
) -> Tensor:
    """An additive mask [1, 1, count * width, start + count * width]."""
    place = torch.arange(width, device=device).repeat(count)
    owner = torch.arange(count, device=device).repeat_interleave(width)
    distance = place[:, None] - place[None, :]
    own = (owner[:, None] == owner[None, :]) & (distance >= 0)
    before = start + place[:, None] - torch.arange(start, device=device)[None, :]
    if window is not None:
        own, seen = own & (distance < window), before < window
    else:
        seen = torch.ones_like(before, dtype=torch.bool)
    allowed = torch.cat([seen, own], dim=1)
    mask = torch.zeros(allowed.shape, dtype=dtype, device=device)
    return mask.masked_fill(~allowed, torch.finfo(dtype).min)[None, None]


def _edited(subject: Subject, branches: Sequence[Branch], width: int) -> ExitStack:
    """Hooks that apply each branch's edits to its own positions of the packed row."""
    by_place: dict[tuple[bool, int], list[tuple[int, Edit]]] = {}
    for branch, edits in enumerate(branches):
        for one in edits:
            by_place.setdefault((one.kind == "head", one.block), []).append((branch, one))
    blocks: Mapping[int, Transform] = {
        block: _apply(found, width) for (head, block), found in by_place.items() if not head
    }
    heads: Mapping[int, Transform] = {
        block: _apply(found, width) for (head, block), found in by_place.items() if head
    }
    stack = ExitStack()
    stack.enter_context(edit(subject.blocks, blocks))
    stack.enter_context(edit_inputs(attention_outputs(subject) if heads else [], heads))
    return stack


def _apply(edits: Sequence[tuple[int, Edit]], width: int) -> Transform:
    def transform(resid: Tensor) -> Tensor:
        after = resid.clone()
        rows = after[0].unflatten(0, (-1, width))
        for branch, one in edits:
            at = rows[branch, one.first : one.last]
            rows[branch, one.first : one.last] = _changed(at, one)
        return after

    return transform


def _changed(at_KD: Tensor, one: Edit) -> Tensor:
    value = one.value.to(at_KD)
    if one.kind == "remove":
        return at_KD - (at_KD @ value.T) @ value
    if one.kind == "add":
        return at_KD + value
    if one.kind == "set":
        return value
    after = at_KD.clone()
    after[:, one.column : one.column + len(value)] = value
    return after
