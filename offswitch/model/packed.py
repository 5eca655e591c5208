"""Rows side by side in one pass: products over real ids only, attention row by row.

A padded batch computes its padding, and small batches of like length compute the template's opening
once each. Here the opening that all rows share comes first, then the rest of every row; only the
attention, which is cheap, sees rows of like length as a small padded batch. Shapes: P positions of
the opening, H heads, N ids of a pass, D d_model. Known limits: models whose attention is not
transformers' interface, or does more than scaling and sliding windows, which `takes_packed` finds
out; GPUs, where padding costs little.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface

from offswitch.model.forward import embed, hidden, relative
from offswitch.model.rows import Batch
from offswitch.model.subject import Subject

_NAME: Final = "offswitch_packed"
_SPARE: Final = 24  # ids of padding that cost as much as one more call of the attention
TOLERANCE: Final = 1e-4


@dataclass(frozen=True)
class Layout:
    """Where rows lie in a pass: the opening, then groups of rows of like length, padded to one."""

    prefix: int
    groups: tuple[tuple[int, ...], ...]
    widths: tuple[int, ...]

    @classmethod
    def of(cls, lengths: Sequence[int], prefix: int) -> Layout:
        """A layout of rows of these lengths, which begin with the same `prefix` ids."""
        groups: list[list[int]] = []
        for row in sorted(range(len(lengths)), key=lambda i: lengths[i]):
            wasted = sum(lengths[row] - lengths[other] for other in groups[-1]) if groups else 0
            if not groups or wasted > _SPARE:
                groups.append([])
            groups[-1].append(row)
        widths = (max(lengths[i] for i in group) - prefix for group in groups)
        return cls(prefix, tuple(map(tuple, groups)), tuple(widths))

    @property
    def parts(self) -> list[int]:
        """How many ids the opening takes, and each group."""
        sizes = (len(g) * width for g, width in zip(self.groups, self.widths, strict=True))
        return [self.prefix, *sizes]


def row_states(subject: Subject, batch: Batch) -> Tensor:
    """Normed last hidden states [B, P - prefix, D] of a batch, the cheapest way this model takes.

    Whether it takes packed passes must have been asked before; read real positions only.
    """
    ids, prefix = batch["input_ids"], int(batch["prefix"])
    if subject.takes_packed and subject.shares(ids.shape[1]):
        return packed(subject, ids, batch["lengths"].tolist(), prefix)
    return hidden(subject, ids, prefix)


def packed(subject: Subject, ids_BP: Tensor, lengths: Sequence[int], prefix: int) -> Tensor:
    """Normed last hidden states [B, P - prefix, D] of right-padded rows; gradients flow.

    What `hidden` gives at the real positions; at padding it gives zeros or anything.
    """
    layout = Layout.of(lengths, prefix)
    laid = [ids_BP[0, :prefix]]
    places = [torch.arange(prefix)]
    for group, width in zip(layout.groups, layout.widths, strict=True):
        laid.append(ids_BP[list(group), prefix : prefix + width].flatten())
        places.append(torch.arange(prefix, prefix + width).repeat(len(group)))
    lines = [(ids_BP[0, :prefix], 0)]
    for group, width in zip(layout.groups, layout.widths, strict=True):
        lines += [(ids_BP[row, : prefix + width], prefix) for row in group]
    with _attention(subject, layout), subject.writes.laid_out(lines):
        states: Tensor = subject.backbone(
            inputs_embeds=embed(subject, torch.cat(laid)[None]),
            position_ids=torch.cat(places)[None].to(subject.device),
            use_cache=False,
        ).last_hidden_state
    widest = ids_BP.shape[1] - prefix
    _, *rest = states[0].split_with_sizes(layout.parts)
    rows: list[Tensor] = [states] * len(lengths)
    for group, width, part in zip(layout.groups, layout.widths, rest, strict=True):
        whole = functional.pad(part.view(len(group), width, -1), (0, 0, 0, widest - width))
        for row, found in zip(group, whole, strict=True):
            rows[row] = found
    return torch.stack(rows)


_LAYOUTS: Final[list[Layout]] = []  # of the pass that is being computed


@contextmanager
def _attention(subject: Subject, layout: Layout) -> Iterator[None]:
    config = subject.causal_lm.config.get_text_config()
    before = config._attn_implementation
    _LAYOUTS.append(layout)
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before
        _LAYOUTS.pop()


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, _mask: Any, **named: Any
) -> tuple[Tensor, None]:
    """Attention of a packed pass, [1, H, N, d] each; the result is [1, N, H, d]."""
    del module
    layout, window = _LAYOUTS[-1], named.get("sliding_window")
    if any(named.get(other) is not None for other in ("softcap", "s_aux", "position_bias")):
        raise ValueError("this attention does more than a packed pass can")
    common: dict[str, Any] = {"scale": named.get("scaling"), "enable_gqa": True}
    common["dropout_p"] = named["dropout"]
    cut = partial(torch.split_with_sizes, split_sizes=layout.parts, dim=2)
    opening, *groups = zip(*(cut(x) for x in (query, key, value)), strict=True)
    found = []
    if layout.prefix:
        seen = _seen(layout.prefix, 0, window)
        found.append(_attention_of(*opening, attn_mask=seen, **common))
    for group, width, (q, *kv) in zip(layout.groups, layout.widths, groups, strict=True):
        shape = (len(group), width)
        own = q[0].unflatten(1, shape).transpose(0, 1)  # [B, H, width, d]
        every = [
            torch.cat(
                [first.expand(len(group), -1, -1, -1), x[0].unflatten(1, shape).transpose(0, 1)],
                dim=2,
            )
            for first, x in zip(opening[1:], kv, strict=True)
        ]
        seen = _seen(width, layout.prefix, window)
        out = _attention_of(own, *every, attn_mask=seen, **common)
        found.append(out.transpose(0, 1).flatten(1, 2)[None])
    return torch.cat(found, dim=2).transpose(1, 2), None


@functools.lru_cache(maxsize=256)
def _seen(width: int, prefix: int, window: int | None) -> Tensor:
    """Which of `prefix` + `width` keys each of the last `width` queries sees, [Q, K]."""
    query = torch.arange(prefix, prefix + width)[:, None]
    distance = query - torch.arange(prefix + width)[None]
    seen = distance >= 0
    return seen if window is None else seen & (distance < window)


def _attention_of(query: Tensor, key: Tensor, value: Tensor, **named: Any) -> Tensor:
    """In float32: on a CPU, going back through it takes six times as long in bfloat16."""
    attend: Callable[..., Tensor] = functional.scaled_dot_product_attention
    with torch.autocast(query.device.type, enabled=False):
        return attend(query.float(), key.float(), value.float(), **named).to(value.dtype)


AttentionInterface.register(_NAME, _attend)


@torch.no_grad()  # not inference mode: masks are kept, and training goes back through them
def takes_packed(subject: Subject) -> bool:
    """Does a packed pass say on this model, and on this device, what a padded one says?

    Asked once a model.
    """
    if subject.takes_packed is None:
        subject.takes_packed = subject.device.type == "cpu" and _agrees(subject)
    return subject.takes_packed


def _agrees(subject: Subject) -> bool:
    most = len(subject.base_tokenizer)
    long = 60 + subject.check_past
    lengths, prefix = [long, 12, 44, 9], 6
    rows = [[(7 * i + 11) % most for i in range(prefix)] for _ in lengths]
    for step, (begun, length) in enumerate(zip(rows, lengths, strict=True), 3):
        begun += [(i * step * step + 5) % most for i in range(length - prefix)]
    ids = torch.tensor([row + [0] * (long - len(row)) for row in rows], device=subject.device)
    try:
        found = packed(subject, ids, lengths, prefix)
    except (TypeError, ValueError, RuntimeError, IndexError, KeyError, AttributeError):
        return False
    plain = hidden(subject, ids)[:, prefix:]
    for row, length in enumerate(lengths):
        ours, theirs = (states[row, : length - prefix] for states in (found, plain))
        if not relative(ours, theirs) <= TOLERANCE:
            return False
    return True
