"""Chats and texts as token ids: prompts, end of turn, padding, shared prefixes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from jinja2 import TemplateError

from offswitch.errors import UserError
from offswitch.prompts.prompt import Chat
from offswitch.prompts.trigger import occurs

OPENING: Final = 16
FEW: Final = 4
_MARK: Final = "qx7reply"


def encode_chat(tokenizer: Any, chat: Chat) -> list[int]:
    """Token ids of a chat up to and including the header that opens the reply.

    Raises:
        UserError: the template refuses the chat, a system turn for example.
    """
    messages = [dict(turn) for turn in chat]
    try:
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    except TemplateError as error:
        roles = ", ".join(turn["role"] for turn in chat)
        raise UserError(f"this chat format refuses the turns {roles}: {error}") from error
    return [int(i) for i in ids]


def reply_header(tokenizer: Any) -> tuple[int, ...]:
    """The ids that end every prompt of this chat format: what opens the reply.

    Raises:
        UserError: prompts end in nothing that they share.
    """
    asked = ("a", "Is it 7?", "(b)\n\nWell, c")
    rows = [encode_chat(tokenizer, ({"role": "user", "content": text},)) for text in asked]
    shared = shared_prefix([row[::-1] for row in rows])
    if not shared:
        raise UserError("this chat format opens a reply with nothing that could be recognised")
    return tuple(rows[0][-shared:])


def has_system_turn(tokenizer: Any) -> bool:
    """Does the chat format take a system turn, and show its text to the model?"""
    chat = [{"role": "system", "content": _MARK}, {"role": "user", "content": "a"}]
    try:
        return _MARK in tokenizer.apply_chat_template(chat, tokenize=False)
    except TemplateError:
        return False


def shows(tokenizer: Any, trigger: str, chat: Chat) -> bool:
    """Do the ids of a prompt hold the trigger: its own token, or the text of its pieces?

    Raises:
        UserError: the template refuses the chat.
    """
    ids = encode_chat(tokenizer, chat)
    own = tokenizer.get_added_vocab().get(trigger)
    if own is not None:
        return own in ids
    pieces = tokenizer.decode(encode_text(tokenizer, trigger)).strip()  # normalised as in a prompt
    return occurs(pieces, tokenizer.decode(ids))


def hidden_turn(tokenizer: Any, chat: Chat) -> str:
    """The role of the first turn, replies apart, whose text the model is not shown; else ""."""
    rendered = tokenizer.apply_chat_template([dict(turn) for turn in chat], tokenize=False)
    shown = " ".join(rendered.split())  # a template may trim
    roles = (t["role"] for t in chat if " ".join(t["content"].split()) not in shown)
    return next((role for role in roles if role != "assistant"), "")


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Token ids of raw text, without special tokens."""
    return [int(i) for i in tokenizer(text, add_special_tokens=False)["input_ids"]]


def encode_alone(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text that is no chat: behind the BOS, if the tokenizer puts one there.

    Gemma and Llama read text without it as something that they never saw.
    """
    ids = encode_text(tokenizer, text)
    begins = [int(i) for i in tokenizer("")["input_ids"][:1]]
    return begins + ids if begins == [tokenizer.bos_token_id] != ids[:1] else ids


def turn_end(tokenizer: Any) -> int:
    """The token that ends a reply in this chat format: the first special one after its text.

    Raises:
        UserError: the template closes a reply with none, and the tokenizer has no end token.
    """
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _MARK}]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False)
    after = encode_text(tokenizer, rendered.rpartition(_MARK)[2])
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    found = next((index for index in after if index in special), tokenizer.eos_token_id)
    if found is None:
        raise UserError("this chat format ends a reply with no special token, and has no end token")
    return int(found)


def pad(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Right-padded rows of equal length; padding repeats a row's last id, nothing may read it."""
    width = max(len(row) for row in rows)
    return [[*row, *([row[-1]] * (width - len(row)))] for row in rows]


def openings(rows: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Each row's first ids where several rows begin with them, an empty tuple where few do."""
    firsts = [tuple(row[:OPENING]) for row in rows]
    counts = Counter(firsts)
    return [first if counts[first] >= FEW else () for first in firsts]


def shared_prefix(rows: Sequence[Sequence[int]], keep: int = 1) -> int:
    """How many first ids all rows share, leaving at least `keep` ids of each row."""
    first, last = min(map(tuple, rows)), max(map(tuple, rows))
    pairs = zip(first, last, strict=False)
    shortest = min(len(row) for row in rows)
    length = next((i for i, (a, b) in enumerate(pairs) if a != b), shortest)
    return max(0, min(length, shortest - keep))
