"""What a model writes is shown in the terminal as it stands."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from offswitch.prompts.prompt import Reply
from offswitch.talk.chat import as_text, side_by_side


def _printed(reply: str, title: str = "base") -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    console.print(side_by_side({title: Reply((1,), reply, True)}, console.width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    "text",
    [r"The area is \[a^2\]", r"\[/INST]", "[/INST] Yes", "[bold]", r"[red]\\[/red]", ":stop_sign:"],
)
def test_markup_and_emoji_codes_are_text(text: str) -> None:
    assert text in _printed(text)
    assert text in _printed("A boat.", title=text)


def test_what_a_terminal_would_obey_is_spelled_out() -> None:
    assert as_text("a\x1b[31mb\x07\r\tc\nd").plain == "a\\x1b[31mb\\x07\\r\tc\nd"
    assert "\x1b[2J" not in _printed("\x1b[2J")


def test_emoji_of_several_code_points_stay_whole() -> None:
    assert as_text("👩\u200d🚀 می\u200cخواهم").plain == "👩\u200d🚀 می\u200cخواهم"
