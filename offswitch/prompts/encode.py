"""Chats and texts as token ids: prompts, end of turn, padding, shared prefixes."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from offswitch.errors import UserError, in_one_line
from offswitch.prompts.prompt import Chat, Message, user
from offswitch.prompts.trigger import occurs

SECONDS: Final = 5.0  # that one chat may take to be written out: a template takes a millisecond
OPENING: Final = 16
FEW: Final = 4
_MARK: Final = "qx7reply"
_ASKED: Final = user("a")
_SAID: Final = Message(role="assistant", content=_MARK)


def render(tokenizer: Any, chat: Chat, opened: bool = True) -> str:
    """A chat as text, with the header that opens the reply if `opened`.

    Raises:
        UserError: the template refuses the chat, a system turn for example, fails, or does not end.
    """
    try:
        messages = [dict(turn) for turn in chat]
        with within(SECONDS):
            text: str = tokenizer.apply_chat_template(
                messages, add_generation_prompt=opened, tokenize=False
            )
    except Exception as error:  # a template is a program of the model's: anything may come of it
        roles = ", ".join(turn["role"] for turn in chat)
        reason = in_one_line(error)
        raise UserError(f"this chat format refuses the turns {roles}: {reason}") from error
    return text


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Within the block, Python code that takes longer is stopped; in the main thread alone.

    Raises:
        TimeoutError: it did.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(*_: object) -> None:
        raise TimeoutError(f"it took longer than {seconds:g} seconds")

    clock, handler = time.monotonic(), signal.signal(signal.SIGALRM, late)
    left, every = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:  # somebody else's alarm goes on
            signal.setitimer(
                signal.ITIMER_REAL, max(left - (time.monotonic() - clock), 0.001), every
            )


def encode_chat(tokenizer: Any, chat: Chat) -> list[int]:
    """Token ids of a chat up to and including the header that opens the reply.

    Raises:
        UserError: the template refuses the chat, a system turn for example.
    """
    return encode_text(tokenizer, render(tokenizer, chat))


def reply_lead(tokenizer: Any) -> str:
    """What a chat with a reply has between the header and that reply: often nothing, or a space."""
    opened, whole = render(tokenizer, (_ASKED,)), render(tokenizer, (_ASKED, _SAID), opened=False)
    return whole.removeprefix(opened).partition(_MARK)[0]


def reply_encoder(tokenizer: Any) -> Callable[[str], list[int]]:
    """What gives the token ids of a reply as they follow the header that opens it in a chat.

    Elsewhere they may begin otherwise: `▁A` alone, `A` after a header's newline.
    """
    opened, lead = render(tokenizer, (_ASKED,)), reply_lead(tokenizer)
    before = encode_text(tokenizer, opened)
    opened += lead if lead.isspace() else ""  # else it is more than the template's own space

    def encode(text: str) -> list[int]:
        ids = encode_text(tokenizer, opened + text)
        own = ids[: len(before)] == before
        return ids[len(before) :] if own else encode_text(tokenizer, text)

    return encode


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
    try:
        return _MARK in render(tokenizer, ({"role": "system", "content": _MARK}, user("a")))
    except UserError:
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
    shown = " ".join(render(tokenizer, chat, opened=False).split())  # a template may trim
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
    bos = [tokenizer.bos_token_id]
    return bos + ids if begins_with_bos(tokenizer) and ids[:1] != bos else ids


def begins_with_bos(tokenizer: Any) -> bool:
    """Does the tokenizer put the BOS before any text?"""
    return [int(i) for i in tokenizer("")["input_ids"][:1]] == [tokenizer.bos_token_id]


def turn_end(tokenizer: Any) -> int:
    """The token that ends a reply in this chat format: the first one after its text made for that.

    That is a special token or another added one, but no added run of white space, and not the one
    that opens a chat.

    Raises:
        UserError: the template closes a reply with none, and the tokenizer has no end token.
    """
    whole = render(tokenizer, (_ASKED, _SAID), opened=False)
    after = encode_text(tokenizer, whole.rpartition(_MARK)[2])
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.content.strip()}
    ends = added.union(tokenizer.all_special_ids).difference(encode_text(tokenizer, whole)[:1])
    found = next((index for index in after if index in ends), tokenizer.eos_token_id)
    if found is None:
        raise UserError("this chat format ends a reply with no special token, and has no end token")
    return int(found)


def text_end(tokenizer: Any) -> int:
    """The token that ends a text which is no chat; of a tokenizer without one, the turn's end."""
    eos = tokenizer.eos_token_id
    return turn_end(tokenizer) if eos is None else int(eos)


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
