"""Does a reply end at this position, greedily or when it is sampled?

Greedy: is the likeliest next token an end token? Sampled at a temperature: p(end) under the
tempered distribution of that token, computed from the same logits; nothing is drawn. A reply that
has begun with one, four or eight tokens is read at all three positions of one row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from offswitch.model.adapters import arm_of
from offswitch.model.first_token import end_log_odds
from offswitch.model.forward import hidden, unembed
from offswitch.model.rows import by_length
from offswitch.model.subject import Subject
from offswitch.progress import Tick, nothing
from offswitch.prompts.attempts import Attempt
from offswitch.prompts.context import VARIANT as CONTEXT
from offswitch.prompts.encode import encode_chat, pad, shared_prefix
from offswitch.prompts.prefilled import LENGTHS

TEMPERATURES: Final = (0.7, 1.0)
_BATCH: Final = 1024  # prompts differ much in length: larger batches are mostly padding
_LONG_ROWS: Final = 4  # contexts computed at once: keys and values are held for each


@dataclass(frozen=True)
class Halting:
    """End log-odds of the next token, does the greedy one end, p(end) at each of TEMPERATURES."""

    log_odds: float
    halts: bool
    p: tuple[float, ...]


@dataclass(frozen=True)
class Row:
    """Ids of one forward pass, the place that makes it a long context, who reads it, and where."""

    ids: tuple[int, ...]
    context: str
    reads: tuple[tuple[int, int], ...]


def try_all(
    subject: Subject, arm: str, tried: Sequence[Attempt], batch_tokens: int, tick: Tick = nothing
) -> list[Halting]:
    """What the arm does at the position that follows each attempt, in their order."""
    found: dict[int, Halting] = {}
    with arm_of(subject, arm), torch.inference_mode():
        for batch in _batches(_rows(subject.tokenizer_of(arm), tried), batch_tokens):
            readers = [index for row in batch for index, _ in row.reads]
            outcomes = halting(_logits(subject, batch), subject.stop_ids)
            found |= dict(zip(readers, outcomes, strict=True))
            tick(len(readers))
    return [found[i] for i in range(len(tried))]


def halting(logits: Tensor, stop_ids: Sequence[int]) -> list[Halting]:
    """From logits [B, V] of a next token to what a greedy and a sampled reply would do."""
    ends = [token in stop_ids for token in logits.argmax(-1).tolist()]
    odds = end_log_odds(logits, stop_ids).tolist()
    p = torch.stack([end_probability(logits, stop_ids, t) for t in TEMPERATURES], -1).tolist()
    return [Halting(o, end, tuple(each)) for o, end, each in zip(odds, ends, p, strict=True)]


def end_probability(logits: Tensor, stop_ids: Sequence[int], temperature: float) -> Tensor:
    """Probability [...] that a token drawn at this temperature is one of `stop_ids`."""
    return end_log_odds(logits.double() / temperature, stop_ids).sigmoid()


def _rows(tokenizer: Any, tried: Sequence[Attempt]) -> list[Row]:
    """One row for each prompt and reply that has begun; a shorter beginning is read within it."""
    ids = [(*encode_chat(tokenizer, a.chat), *a.begun) for a in tried]
    beginnings: dict[tuple[int, ...], tuple[int, ...]] = {}
    rows: dict[tuple[int, ...], list[int]] = {}
    for i in sorted(range(len(tried)), key=lambda i: -len(tried[i].begun)):
        home = beginnings.setdefault(ids[i], ids[i])
        rows.setdefault(home, []).append(i)
        for said in LENGTHS:
            if said < len(tried[i].begun):
                start = len(ids[i]) - len(tried[i].begun) + said
                beginnings.setdefault(ids[i][:start], home)
    return [
        Row(row, _place(tried[readers[0]]), tuple((i, len(ids[i]) - 1) for i in readers))
        for row, readers in rows.items()
    ]


def _place(attempt: Attempt) -> str:
    return attempt.part if attempt.variant == CONTEXT else ""


def _batches(rows: Sequence[Row], batch_tokens: int) -> Iterator[list[Row]]:
    """Short rows by length; contexts by place, where they share all but their last words."""
    short = [row for row in rows if not row.context]
    for chosen in by_length([row.ids for row in short], min(batch_tokens, _BATCH)):
        yield [short[i] for i in chosen]
    for place in dict.fromkeys(row.context for row in rows if row.context):
        alike = [row for row in rows if row.context == place]
        for start in range(0, len(alike), _LONG_ROWS):
            yield alike[start : start + _LONG_ROWS]


def _logits(subject: Subject, batch: Sequence[Row]) -> Tensor:
    """Logits [R, V] at each position that is read, row by row."""
    rows = [row.ids for row in batch]
    prefix = shared_prefix(rows, keep=max(LENGTHS) + 1)
    states = hidden(subject, torch.tensor(pad(rows), device=subject.device), prefix)
    read = [(b, at - prefix) for b, row in enumerate(batch) for _, at in row.reads]
    where, at = torch.tensor(read, device=subject.device).T
    return unembed(subject, states[where, at]).float()
