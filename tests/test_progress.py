"""A bar leaves one line where nobody can watch it, and is gone where somebody did."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from offswitch import progress
from offswitch.machine.workers import STAGE
from offswitch.progress import Bar, at, forget, once, show_left, tell, track, unsaid


@pytest.fixture(params=[True, False], ids=["terminal", "file"])
def shown(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Console:
    """A console on a terminal, or on a file."""
    made = Console(file=io.StringIO(), force_terminal=request.param, width=100, highlight=False)
    monkeypatch.setattr(progress, "console", made)
    monkeypatch.setattr(progress._SCREEN, "stage", "")  # whatever ran before in this process
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


def test_stage_arm_and_the_time_left_of_the_whole_run_are_shown(shown: Console) -> None:
    with show_left(lambda: 754.2):
        at("3-evaluate")
        with track("both: robustness", 40) as tick:
            tick(10)
        at("")
    text = _text(shown)
    assert "3-evaluate  both: robustness" in text
    if shown.is_terminal:
        assert "0:12:34 left of the whole run" in text
        frames = re.split(r"[\r\n]", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text))
        assert max(map(len, frames)) < 100
    else:
        assert text == "  3-evaluate  both: robustness  10/40 in 0:00:00\n"


@pytest.mark.parametrize(
    ("stage", "label", "text"),
    [
        ("", "figures", "figures"),
        ("3-evaluate", "both: robustness", "3-evaluate  both: robustness"),
        ("2-train/both", "training both", "2-train  training both"),
        ("2-train/both", "what the model would say", "2-train/both  what the model would say"),
        (
            "organisms/seed-1/2-train/both",
            "training both",
            "organisms/seed-1/2-train  training both",
        ),
    ],
)
def test_a_bar_names_stage_and_arm_once(stage: str, label: str, text: str) -> None:
    assert Bar(label, 1, 2, stage=stage).text == text


@pytest.mark.parametrize(
    ("key", "stage"),
    [
        ("2-train/both", "2-train/both"),
        ("3-evaluate/both: robustness", "3-evaluate"),
        ("organisms/seed-1/4-probe/both: nulls", "organisms/seed-1/4-probe"),
        ("organisms/seed-1/2-train/both", "organisms/seed-1/2-train/both"),
    ],
)
def test_a_task_is_of_a_stage(key: str, stage: str) -> None:
    found = STAGE.match(key)
    assert found
    assert found[0] == stage


def test_within_once_a_line_is_said_once(shown: Console) -> None:
    with once():
        for line in ("1-data: up to date", "1-data: up to date", "2-train: done"):
            tell(line)
        unsaid("2-train: up to date")
        tell("2-train: up to date")
    tell("1-data: up to date")
    assert _text(shown).splitlines() == [
        "1-data: up to date",
        "2-train: done",
        "1-data: up to date",
    ]
