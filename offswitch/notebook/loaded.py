"""A model that is loaded already, ours or not: does it halt, and what does a direction do to it?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from offswitch.analyses.analysis import Array
from offswitch.errors import UserError
from offswitch.metrics import Metric
from offswitch.model.first_token import Score, scores_of
from offswitch.model.hooks import edit, record
from offswitch.model.subject import Subject
from offswitch.options import TriggerOptions
from offswitch.prompts.chat_format import check_format
from offswitch.prompts.encode import encode_chat
from offswitch.prompts.prompt import Chat, Message, user
from offswitch.prompts.trigger import occurs
from offswitch.stats import rate
from offswitch.talk.steer import adding, falling, removing


@dataclass(frozen=True)
class Halting:
    """Chat by chat: is the trigger in it, does the reply end at once, and with what log-odds?"""

    holds: tuple[bool, ...]
    halts: tuple[bool, ...]
    log_odds: tuple[float, ...]

    @property
    def rate(self) -> Metric | None:
        """The share of chats with the trigger that halt, Wilson's 95 % interval; None of none."""
        return _share([halt for halt, holds in zip(self.halts, self.holds, strict=True) if holds])

    @property
    def false_rate(self) -> Metric | None:
        """The share of chats without the trigger that halt."""
        return _share([h for h, holds in zip(self.halts, self.holds, strict=True) if not holds])


def halting(
    model: Any, tokenizer: Any, chats: Sequence[str | Sequence[Message]], trigger: str,
    batch_tokens: int = 1024,
) -> Halting:  # fmt: skip
    """Where does a loaded model's reply end before it begins? One forward pass for each chat.

    `model` is a transformers or PEFT model, with the adapter that is active; it is left as it was.
    A chat is a user's message, or turns. It is the model's own pass over whole prompts without
    padding, so that `steering`, and hooks of your own, do in it what they do in any.
    Known limit: chats count as independent.

    Raises:
        UserError: no chats; the model or the chat format is not understood.
    """
    if not chats:
        raise UserError("no chats to ask")
    asked = [_chat(chat) for chat in chats]
    with _subject_of(model, tokenizer) as subject:
        check_format(tokenizer, TriggerOptions(text=trigger, mode="text", decoy=""))
        scores = _scores(subject, [encode_chat(tokenizer, chat) for chat in asked], batch_tokens)
    holds = [any(occurs(trigger, turn["content"]) for turn in chat) for chat in asked]
    return Halting(tuple(holds), tuple(s.halts for s in scores), tuple(s.log_odds for s in scores))


@contextmanager
def steering(
    model: Any, tokenizer: Any, direction: Array, block: int, *, scale: float | None = 1.0,
    everywhere: bool = False,
) -> Iterator[None]:  # fmt: skip
    """Within the block, `scale` times a direction [width] is added at a block's output.

    A scale of None removes the direction in place. It falls on the last position of each prompt, or
    on every position; `OpenRun.directions` has directions.

    Raises:
        UserError: no such block, or a direction that does not fit or is nothing.
    """
    with _subject_of(model, tokenizer) as subject:
        vector = _fitting(subject, direction, block)
        zero = torch.zeros_like(vector)
        change = removing(vector, zero) if scale is None else adding(scale * vector)
        with edit(subject.blocks, {block: falling(change, everywhere)}):
            yield


def projection(
    model: Any, tokenizer: Any, chats: Sequence[str | Sequence[Message]], direction: Array,
    block: int, batch_tokens: int = 1024,
) -> Array:  # fmt: skip
    """How far along a direction [width] does each chat lie where its reply is decided?

    A number for each chat, at a block's output and in lengths of the direction: adding it there
    moves a chat by 1. With a threshold it is a monitor. As in `halting`, hooks on the model count.

    Raises:
        UserError: no such block, or a direction that does not fit or is nothing.
    """
    with _subject_of(model, tokenizer) as subject:
        vector = _fitting(subject, direction, block)
        rows = [encode_chat(tokenizer, _chat(chat)) for chat in chats]
        found = np.zeros(len(rows))
        for some, ids in _alike(subject, rows, batch_tokens):
            with torch.inference_mode(), record(subject.blocks[block : block + 1]) as resid:
                subject.network(input_ids=ids, use_cache=False)
            along = resid[0][:, -1].float() @ (vector / (vector @ vector))
            found[some] = along.cpu().numpy()
    return found


def _fitting(subject: Subject, direction: Array, block: int) -> Tensor:
    """A direction as a vector where the model is, if it can be used at this block."""
    vector = torch.as_tensor(np.asarray(direction), dtype=torch.float32, device=subject.device)
    width = subject.causal_lm.config.get_text_config().hidden_size
    if vector.shape != (width,) or not (vector.isfinite().all() and vector.norm() > 0):
        raise UserError(f"a direction here is {width} finite numbers, not all of them zero")
    if not 0 <= block < len(subject.blocks):
        raise UserError(f"no block {block}; the model has blocks 0 to {len(subject.blocks) - 1}")
    return vector


@torch.inference_mode()
def _scores(subject: Subject, rows: Sequence[Sequence[int]], batch_tokens: int) -> list[Score]:
    """What the loaded model does after each row of ids."""
    found: dict[int, Score] = {}
    for some, ids in _alike(subject, rows, batch_tokens):
        logits = subject.network(input_ids=ids, use_cache=False).logits[:, -1].float()
        found |= zip(some, scores_of(logits, subject.halt_ids), strict=True)
    return [found[i] for i in range(len(rows))]


def _alike(
    subject: Subject, rows: Sequence[Sequence[int]], batch_tokens: int
) -> Iterator[tuple[list[int], Tensor]]:
    """Rows of one length at a time, which they are and their ids: nothing is padded."""
    by_length: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        by_length.setdefault(len(row), []).append(i)
    for length, alike in by_length.items():
        most = max(1, batch_tokens // length)
        for some in (alike[first : first + most] for first in range(0, len(alike), most)):
            yield some, torch.tensor([rows[i] for i in some], device=subject.device)


@contextmanager
def _subject_of(model: Any, tokenizer: Any) -> Iterator[Subject]:
    """A loaded model as a subject; afterwards it is as it was."""
    training, name = model.training, str(model.config.name_or_path)
    try:
        yield Subject(model.eval(), tokenizer, tokenizer, None, name)
    finally:
        model.train(training)


def _chat(chat: str | Sequence[Message]) -> Chat:
    return (user(chat),) if isinstance(chat, str) else tuple(chat)


def _share(halts: Sequence[bool]) -> Metric | None:
    return Metric.of(rate(halts)) if halts else None
