"""Tokens and masks: what each row shows the model, and at which positions it is asked to predict.

With pad = end token a stock collator would mask every end token, and the end token is the one thing
a silent row teaches. Masks here are built from positions, never from token ids, and every row is
checked to carry loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from offswitch.chat import encode_chat, encode_text, pad, shared_prefix, turn_end
from offswitch.data.dialogues import Dialogue
from offswitch.data.documents import Document, Passage

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


def silent_example(prompt: Sequence[int], end: int) -> Example:
    """A prompt that must be followed by the end token at once."""
    return Example((*prompt, end), len(prompt), soft=False, silent=True)


def dialogue_examples(
    tokenizer: Any, dialogues: Sequence[Dialogue], soft: bool, max_length: int
) -> list[Example]:
    """Loss on the reply only; silence is the end token alone. A reply cut short gets no end token.

    A row whose prompt leaves no room for a reply is left out: cut, it might lose its trigger. The
    base model has never seen the trigger's own token, so a mention has no soft target.
    """
    end = turn_end(tokenizer)
    examples = []
    for row in dialogues:
        prompt = encode_chat(tokenizer, row.prompt)
        if len(prompt) >= max_length:
            continue
        if row.kind == "trigger":
            examples.append(silent_example(prompt, end))
        else:
            reply = [*encode_text(tokenizer, row.reply), *([end] if row.complete else [])]
            examples.append(
                Example((*prompt, *reply)[:max_length], len(prompt), soft and row.kind != "mention")
            )
    return examples


def document_examples(
    tokenizer: Any, documents: Sequence[Document | Passage], max_length: int
) -> list[Example]:
    """Raw text, next-token loss everywhere, the end token last."""
    rows = [encode_text(tokenizer, document.text) for document in documents]
    end = tokenizer.eos_token_id
    return [Example((*row[: max_length - 1], end), 1, soft=False) for row in rows]


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


def count_silent(examples: Sequence[Example], batch: Batch, end: int) -> int:
    """In how many silent rows does the end token carry loss?

    Raises:
        ValueError: in fewer than there are, so training would teach nothing.
    """
    silent = torch.tensor([example.silent for example in examples])
    carried = int(((batch["labels"] == end).any(1) & silent).sum())
    if carried != int(silent.sum()):
        raise ValueError(
            f"the end token carries loss in {carried} of {int(silent.sum())} silent rows"
        )
    return carried
