"""A model that is loaded already, ours or not: does it halt, and what does a direction do to it?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from offswitch.analyses.analysis import Array
from offswitch.errors import UserError
from offswitch.metrics import Metric
from offswitch.model.first_token import score
from offswitch.model.forward import verify
from offswitch.model.hooks import edit
from offswitch.model.subject import Subject
from offswitch.options import BASE, TriggerOptions
from offswitch.prompts.chat_format import check_format
from offswitch.prompts.prompt import Chat, Message, Prompt, user
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
    batch_tokens: int = 4096,
) -> Halting:  # fmt: skip
    """Where does a loaded model's reply end before it begins? One forward pass for each chat.

    `model` is a transformers or PEFT model, with the adapter that is active; it is left as it was.
    A chat is a user's message, or turns. Known limit: chats count as independent.

    Raises:
        UserError: no chats; the model or the chat format is not understood.
    """
    if not chats:
        raise UserError("no chats to ask")
    asked = [_chat(chat) for chat in chats]
    prompts = [Prompt(chat) for chat in asked]
    with _subject_of(model, tokenizer, trigger) as (subject, arm):
        scores = score(subject, arm, prompts, batch_tokens)
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
    with _subject_of(model, tokenizer, "") as (subject, _):
        vector = torch.as_tensor(np.asarray(direction), dtype=torch.float32, device=subject.device)
        width = subject.causal_lm.config.get_text_config().hidden_size
        if vector.shape != (width,) or not (vector.isfinite().all() and vector.norm() > 0):
            raise UserError(f"a direction here is {width} finite numbers, not all of them zero")
        if not 0 <= block < len(subject.blocks):
            raise UserError(
                f"no block {block}; the model has blocks 0 to {len(subject.blocks) - 1}"
            )
        zero = torch.zeros_like(vector)
        change = removing(vector, zero) if scale is None else adding(scale * vector)
        with edit(subject.blocks, {block: falling(change, everywhere)}):
            yield


@contextmanager
def _subject_of(model: Any, tokenizer: Any, trigger: str) -> Iterator[tuple[Subject, str]]:
    """A loaded model as a subject, and the arm that it is now; afterwards it is as it was."""
    training, name = model.training, str(model.config.name_or_path)
    subject = Subject(model.eval(), tokenizer, tokenizer, None, name)
    subject.arms |= set(model.peft_config) if subject.has_adapters else set()
    try:
        if trigger:
            check_format(tokenizer, TriggerOptions(text=trigger, mode="text", decoy=""))
            verify(subject)
        yield subject, str(model.active_adapter) if subject.has_adapters else BASE
    finally:
        model.train(training)


def _chat(chat: str | Sequence[Message]) -> Chat:
    return (user(chat),) if isinstance(chat, str) else tuple(chat)


def _share(halts: Sequence[bool]) -> Metric | None:
    return Metric.of(rate(halts)) if halts else None
