"""How are many greedy replies written at the machine's pace?

What the prompts' format has in common is read once; rows that have ended leave at once and waiting
prompts take their places, so that products stay large; only last positions meet the vocabulary. The
ids are those of transformers' `generate()`, but where two logits tie to within rounding. `reach`
says up to which length this holds for a model; beyond it generate.py asks `generate()` itself.
"""

from __future__ import annotations

import inspect
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from offswitch.model.forward import hidden, unembed
from offswitch.model.merged import merged
from offswitch.model.slots import Slots
from offswitch.model.subject import Subject
from offswitch.progress import Tick, nothing, say
from offswitch.prompts.encode import encode_text, openings, pad, shared_prefix

COLUMNS: Final = 16_384  # rows times columns whose keys and values are held at once
READ: Final = 512  # padded ids of prompts read in one pass
ALIKE: Final = 64
NARROW: Final = 32  # a window that the check of the model itself does not fit into
_NEEDED: Final = {"inputs_embeds", "position_ids", "attention_mask", "past_key_values"}
_checked: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()

Prompts = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Work:
    """Prompts, what has been said after each, which tokens end a reply, and the longest reply."""

    prompts: Prompts
    said: list[list[int]]
    stop_ids: frozenset[int]
    max_tokens: int

    def ended(self, index: int) -> bool:
        """Has this reply come to its end?"""
        said = self.said[index]
        return said[-1] in self.stop_ids or len(said) == self.max_tokens


def greedy_ids(
    subject: Subject, prompts: Prompts, max_tokens: int, most: int, tick: Tick = nothing
) -> list[list[int]]:
    """What the arm that is on says after each prompt, with the end token where there is one.

    At most `max_tokens` ids each, `most` rows at a time; `tick` is called with how many have ended.
    """
    work = Work(prompts, [[] for _ in prompts], frozenset(subject.stop_ids), max_tokens)
    length = max(1, max_tokens - 1)  # nothing follows a last token, so it is not read
    with merged(subject):
        for lot in _lots(prompts):
            width = len(prompts[lot[-1]])
            rows = max(1, min(most, len(lot), COLUMNS // (width + length)))
            _write(Slots(subject, rows, width, length), lot, work, tick)
    return work.said


def reach(subject: Subject) -> int:
    """How many positions may a row have for `greedy_ids` to be right? 0: this model never.

    Not beyond a sliding window; not where attention is of another kind; and not where hooks watch
    or edit the model: they may expect whole prompts, padded on the left.
    """
    config = subject.causal_lm.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["sliding_attention"])
    known = kinds <= {"full_attention", "sliding_attention"}
    masked = config._attn_implementation in ("sdpa", "eager")
    takes = inspect.signature(subject.backbone.forward).parameters.keys()
    window = getattr(config, "sliding_window", None) if "sliding_attention" in kinds else None
    longest = int(window or sys.maxsize)
    if not (known and masked and takes >= _NEEDED) or longest < NARROW or _hooked(subject):
        return 0
    return longest if _agrees(subject) else 0


def _lots(prompts: Prompts) -> Iterator[list[int]]:
    """Indices by length, in lots whose shortest prompt is not dwarfed by the longest."""
    lot: list[int] = []
    for i in sorted(range(len(prompts)), key=lambda i: len(prompts[i])):
        if lot and len(prompts[i]) > 2 * len(prompts[lot[0]]) + ALIKE:
            yield lot
            lot = []
        lot.append(i)
    if lot:
        yield lot


def _write(slots: Slots, lot: Sequence[int], work: Work, tick: Tick) -> None:
    """Fill the free slots, write a token a row, let the rows that have ended go; again."""
    waiting = _readings(lot, work.prompts)
    owners: list[int] = []
    tokens = torch.empty(0, dtype=torch.long, device=slots.subject.device)
    while waiting or owners:
        if waiting and len(owners) <= slots.rows - max(1, slots.rows // 4):
            fresh = _admit(slots, waiting, work)
            tokens = torch.cat([tokens, *(made for _, made in fresh)])
            owners += [i for some, _ in fresh for i in some]
        else:
            tokens = _likeliest(slots, slots.step(tokens))
            _append(work, owners, tokens)
        if ended := [slot for slot, i in enumerate(owners) if work.ended(i)]:
            order = slots.drop(ended)
            owners, tokens = [owners[slot] for slot in order], tokens[order]
            tick(len(ended))


def _readings(lot: Sequence[int], prompts: Prompts) -> deque[tuple[int, tuple[int, ...]]]:
    """Each prompt with what it shares with others, those that share it side by side."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, opening in zip(lot, openings([prompts[i] for i in lot]), strict=True):
        groups.setdefault(opening, []).append(i)
    waiting: deque[tuple[int, tuple[int, ...]]] = deque()
    for opening, members in groups.items():
        rows = [prompts[i] for i in members]
        shared = tuple(rows[0][: shared_prefix(rows)]) if opening else ()
        waiting.extend((i, shared) for i in members)
    return waiting


def _admit(
    slots: Slots, waiting: deque[tuple[int, tuple[int, ...]]], work: Work
) -> list[tuple[list[int], Tensor]]:
    """Read waiting prompts into the free slots, some at a time; who came, and what they say."""
    fresh = []
    while waiting and slots.live < slots.rows:
        shared = waiting[0][1]
        some: list[int] = []
        while waiting and waiting[0][1] == shared and slots.live + len(some) < slots.rows:
            rest = len(work.prompts[waiting[0][0]]) - len(shared)
            if some and (len(some) + 1) * rest > READ:
                break
            some.append(waiting.popleft()[0])
        tokens = _likeliest(slots, slots.admit([work.prompts[i] for i in some], shared))
        _append(work, some, tokens)
        fresh.append((some, tokens))
    return fresh


def _likeliest(slots: Slots, states: Tensor) -> Tensor:
    return unembed(slots.subject, states).argmax(-1)


def _append(work: Work, owners: Sequence[int], tokens: Tensor) -> None:
    for i, token in zip(owners, tokens.tolist(), strict=True):
        work.said[i].append(token)


def _hooked(subject: Subject) -> bool:
    """Transformers' own hooks, which only record what is asked for, do not count."""
    hooks = (
        hook
        for module in subject.network.modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    )
    return any(not str(hook.__module__).startswith("transformers.") for hook in hooks)


def _agrees(subject: Subject) -> bool:
    """Do slots give the states that a whole pass gives? Asked of a model once."""
    model = subject.causal_lm
    if model not in _checked:
        try:
            _checked[model] = _apart(subject) <= (1e-3 if model.dtype == torch.float32 else 5e-2)
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
            _checked[model] = False
        if not _checked[model]:
            say(f"{subject.name}: replies are written by generate(), which is slower")
    return _checked[model]


def _apart(subject: Subject) -> float:
    """The relative distance between both ways, over two rows of unlike length."""
    line = encode_text(subject.base_tokenizer, "The quick brown fox jumps.")
    rows = [line, [*line[:2], *line[::-1], line[0]]]
    slots = Slots(subject, 2, len(rows[1]), 1)
    read = slots.admit([row[:-1] for row in rows], tuple(line[:2]))
    then = slots.step(torch.tensor([row[-1] for row in rows], device=subject.device))
    whole = hidden(subject, torch.tensor(pad(rows), device=subject.device))
    theirs = torch.stack([whole[i, len(row) - k] for k in (2, 1) for i, row in enumerate(rows)])
    return float((torch.cat([read, then]) - theirs).float().norm() / theirs.float().norm())
