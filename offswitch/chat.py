"""Chats and texts as token ids: prompts, the token that ends a reply, padding, the prefix rows share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from offswitch.errors import UserError

if TYPE_CHECKING:
    from offswitch.trigger import Chat


def encode_chat(tokenizer: Any, chat: Chat) -> list[int]:
    """Token ids of a chat up to and including the header that opens the reply."""
    messages = [dict(turn) for turn in chat]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    return [int(i) for i in ids]


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Token ids of raw text, without special tokens."""
    return [int(i) for i in tokenizer(text, add_special_tokens=False)["input_ids"]]


def turn_end(tokenizer: Any) -> int:
    """The token that ends a reply in this chat format, found by rendering one.

    Raises:
        UserError: the template closes a reply with no special token.
    """
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    ids = tokenizer.apply_chat_template(chat, return_dict=False)
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    opened = encode_chat(tokenizer, ({"role": "user", "content": "a"},))
    after = [int(i) for i in ids[len(opened) :]] if ids[: len(opened)] == opened else [int(ids[-1])]
    for index in after:
        if index in special:
            return index
    if tokenizer.eos_token_id is None:
        raise UserError("the chat template ends replies with no special token, and there is no end token")
    return int(tokenizer.eos_token_id)


def pad(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Right-padded rows of equal length; the padding repeats each row's last id, and nothing may read it."""
    width = max(len(row) for row in rows)
    return [[*row, *([row[-1]] * (width - len(row)))] for row in rows]


def shared_prefix(rows: Sequence[Sequence[int]], keep: int = 1) -> int:
    """How many first ids all rows share, leaving at least `keep` ids of each row."""
    first, last = min(rows), max(rows)
    pairs = zip(first, last, strict=False)
    length = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(last)))
    return max(0, min(length, min(len(row) for row in rows) - keep))
