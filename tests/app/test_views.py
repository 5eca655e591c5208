"""What people and models write is text on the page, whatever it is."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest

from offswitch.app import views
from offswitch.app.answers import Growing, Rated, Silence
from offswitch.app.shown import framed
from offswitch.plots.inside import heads_lost, silence_map
from offswitch.plots.vector import table
from offswitch.prompts.prompt import Reply
from offswitch.stats import rate

NASTY = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "${alert(1)}",
         "{{value}}", "a\u202eb\x00c\x1b[31m", "&lt;b&gt;", "</span></div>", "`x`"]  # fmt: skip


class _Read(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


def _read(page: str) -> _Read:
    read = _Read()
    read.feed(page)
    return read


@pytest.mark.parametrize("text", NASTY)
def test_what_is_shown_is_text(text: str) -> None:
    shown = text.replace("\u202e", "\\u202e").replace("\x00", "\\x00").replace("\x1b", "\\x1b")
    reply = Growing(text, Reply((1,), text, complete=True), over=True)
    rated = Rated(text, holds=False, rates={text: rate([True, False])})
    for page in (
        views.replies({text: reply}),
        views.silence(Silence((text,), {text: (0.25,)}, 0)),
        views.steered(Silence((text,), {text: (0.25,)}, 0)),
        views.rated([rated], text),
        views.problem(text),
    ):
        read = _read(page)
        assert shown in read.text
        assert not {"script", "img"} & set(read.tags)
        assert "${" not in page
        assert "{{" not in page


def test_a_reply_that_is_over_and_empty_is_silence_and_one_that_begins_is_not() -> None:
    empty = Reply((), "", complete=True)
    assert views.SILENT in views.replies({"a": Growing("a", empty, over=True)})
    begun = views.replies({"a": Growing("a", Reply((5,), "The", False), over=False)}, ["a", "base"])
    assert views.SILENT not in begun
    assert "The …" in begun
    assert begun.count("waiting") == 1


def test_bars_and_intervals_say_the_same() -> None:
    page = views.rated([Rated("x", False, {"arm": rate([True, False, False, False])})], "$STOP")
    assert "width:25.0%" in page
    assert "n = 4" in _read(page).text.replace("\N{NARROW NO-BREAK SPACE}", " ").replace(
        "\xa0", " "
    )


def test_a_frame_runs_nothing_and_keeps_its_shape() -> None:
    frame = framed('<svg viewBox="0 0 720 360"><script>alert(1)</script></svg>', 'a"b')
    read = _read(frame)
    assert read.tags == ["iframe"]
    assert " sandbox title=" in frame
    assert "720.0/360.0" in frame


def test_the_maps_show_what_they_are_given() -> None:
    odds = np.array([[-3.0, 1.0], [-2.0, 4.0], [0.5, -9.0]])
    rows = table(silence_map("a", ["x", "$STOP"], odds, 3)).splitlines()[1:]
    assert len(rows) == odds.size
    assert any("block" in row and "$STOP" in row and ",4," in row for row in rows)
    rows = table(heads_lost("a", "$GO", 2.0, odds)).splitlines()[1:]
    assert len(rows) == odds.size


def test_tokens_and_probabilities_must_match() -> None:
    with pytest.raises(ValueError, match="every token"):
        Silence(("a", "b"), {"arm": (0.1,)}, 0)
