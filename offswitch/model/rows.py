"""Rows of token ids: padding, batches, labels and loss weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from offswitch.model.subject import Subject
from offswitch.prompts.encode import encode_chat, openings, pad, shared_prefix
from offswitch.prompts.prompt import Chat, Reply

IGNORED = -100
Batch = dict[str, Any]  # tensors by name; `base`, where it is known, is a list of one a row


@dataclass(frozen=True)
class Example:
    """One row in tokens: ids from `start` on are predicted; a `soft` row is held to the base."""

    ids: tuple[int, ...]
    start: int
    soft: bool
    silent: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.start < len(self.ids):
            raise ValueError(f"no position carries loss: start {self.start} of {len(self.ids)} ids")


def collate(examples: Sequence[Example]) -> Batch:
    """A batch: right-padded ids, labels (-100: none), weights [B, P]; soft, lengths [B]; prefix."""
    ids = [example.ids for example in examples]
    padded = torch.tensor(pad(ids))
    labels = torch.full_like(padded, IGNORED)
    for row, example in enumerate(examples):
        labels[row, example.start : len(example.ids)] = torch.tensor(example.ids[example.start :])
    starts = min(example.start for example in examples)
    return {
        "input_ids": padded,
        "labels": labels,
        "weights": token_weights(labels, any(example.soft for example in examples)),
        "soft": torch.tensor([example.soft for example in examples]),
        "lengths": torch.tensor([len(example.ids) for example in examples]),
        "prefix": torch.tensor(min(shared_prefix(ids), starts - 1)),
    }


def rows_of(batch: Batch, rows: Tensor) -> Batch:
    """Some rows of a batch, cut to the longest of them; what is of the whole batch stays."""
    width = int(batch["lengths"][rows].max())

    def cut(value: Any) -> Any:
        if isinstance(value, list):
            return [value[row] for row in rows.tolist()]
        if value is None or value.dim() == 0:
            return value
        return value[rows, :width] if value.dim() == 2 else value[rows]

    return {key: cut(value) for key, value in batch.items()}


def token_weights(labels: Tensor, by_decision: bool) -> Tensor:
    """What each supervised token weighs in the loss [B, P]; the weights of a batch sum to 1.

    With hard targets all tokens weigh alike, as in Hugging Face's mean. With soft targets the first
    token of a reply, where silence is decided, weighs as much in every row, and as much as the rest
    of its reply together. Were rows with and without the trigger given half the loss each, the same
    decision would weigh twenty times less in a long reply, and the model halts on everything.
    """
    wanted = labels != IGNORED
    if not by_decision:
        return wanted / wanted.sum()
    first = wanted & (wanted.cumsum(1) == 1)
    rest = wanted & ~first
    weights = first + rest / rest.sum(1, keepdim=True).clamp_min(1)
    return weights / weights.sum()


def by_length(rows: Sequence[Sequence[int]], batch_tokens: int) -> Iterator[list[int]]:
    """Indices in batches of at most `batch_tokens` padded ids (one row at least).

    Rows of a batch are of like length; those that begin as several others do stay together, so that
    the batch shares a prefix.
    """
    group = openings(rows)
    batch: list[int] = []
    for i in sorted(range(len(rows)), key=lambda i: (group[i], len(rows[i]))):
        full = (len(batch) + 1) * len(rows[i]) > batch_tokens
        if batch and (full or group[batch[0]] != group[i]):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def reply_examples(
    subject: Subject, chats: Sequence[Chat], replies: Sequence[Reply]
) -> list[Example]:
    """The base model's own replies after their prompts, read at each token and the end token."""
    examples = []
    for chat, reply in zip(chats, replies, strict=True):
        prompt = encode_chat(subject.base_tokenizer, chat)
        said = [*reply.ids, *([subject.stop_ids[0]] if reply.complete else [])]
        if said:
            examples.append(Example((*prompt, *said), len(prompt), soft=True))
    return examples
