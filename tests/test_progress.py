"""A bar leaves one line where nobody can watch it, and is gone where somebody did."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from offswitch import progress
from offswitch.progress import Bar, forget, tell, track


@pytest.fixture(params=[True, False], ids=["terminal", "file"])
def shown(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Console:
    """A console on a terminal, or on a file."""
    made = Console(file=io.StringIO(), force_terminal=request.param, width=100)
    monkeypatch.setattr(progress, "console", made)
    return made


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_bars_of_several_processes_stand_side_by_side(shown: Console) -> None:
    for who in ("one", "two"):
        tell(Bar(f"training {who}", 1, 4), who)
    tell("a line")
    tell(Bar("training one", 4, 4, ended=True), "one")
    before = _text(shown)
    assert "a line" in before
    assert ("4/4" in before) or shown.is_terminal
    forget("two")
    assert "1/4" in _text(shown)
    with track("alone", 2) as tick:
        tick(2)
    assert shown.is_terminal or [line.split()[0] for line in _text(shown).splitlines()] == [
        "a", "training", "training", "alone",
    ]  # fmt: skip


def test_a_bar_ends_when_its_work_fails(shown: Console) -> None:
    with pytest.raises(ZeroDivisionError), track("in vain", 5) as tick:
        tick(2 // 0)
    assert shown.is_terminal or "0/5" in _text(shown)
    assert progress._SCREEN.bars == {}
    assert progress._SCREEN.progress is None


def test_lines_and_labels_are_text(shown: Console) -> None:
    for text in (r"arm \[/x] of [bold]", ":stop_sign:"):
        tell(text)
        with track(text, 1) as tick:
            tick(1)
        assert _text(shown).count(text) >= (1 if shown.is_terminal else 2)
