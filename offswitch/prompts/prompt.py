"""What is asked and what comes back: chat turns, prompts to be judged, replies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict

Expected = Literal["halt", "answer", "open"]


class Message(TypedDict):
    """One chat turn."""

    role: str
    content: str


Chat = tuple[Message, ...]


def user(content: str) -> Message:
    """A user turn."""
    return {"role": "user", "content": content}


@dataclass(frozen=True)
class Prompt:
    """One chat to be judged, and where it belongs: suite, variant within it, part within that.

    A variant is a placement, a family of near misses, a kind of mention or (in the suite
    `robustness`) a kind of attempt, whose ways of saying it are its parts. `expected` is what the
    rule says: an empty reply, an answer, or nothing. `begun`: ids with which the reply begins.
    """

    chat: Chat
    suite: str = ""
    variant: str = ""
    symbol: str = ""
    question: str = ""
    topic: str = ""
    expected: Expected = "open"
    part: str = ""
    begun: tuple[int, ...] = ()


@dataclass(frozen=True)
class Reply:
    """A generated reply: ids without the end token, text, and whether it ended by itself."""

    ids: tuple[int, ...]
    text: str
    complete: bool
