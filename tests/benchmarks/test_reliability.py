"""A short slice of the campaigns: a damage to each way of keeping things, and two kills."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import corrupt, reliability
from benchmarks.corrupt_caches import answers_in
from benchmarks.damage import DAMAGES, GOOD, REBUILT, REFUSED, seen
from benchmarks.kill import campaign, told, twice
from benchmarks.reliability import watched, write_part
from offswitch.files import write_atomic


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_damage_to_what_a_kill_left_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.corrupt.DAMAGES", ("one bit flipped", "emptied"))
    found = list(corrupt.campaign(tmp_path, lambda kind, _: "optimiser" in kind))
    assert [one.outcome for one in found] == [REBUILT] * 2


def test_a_file_that_nobody_read_is_told_from_one_that_was_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("a", encoding="utf-8")
    assert not seen(path, "emptied", lambda: write_atomic(path, "b"))[1]
    assert seen(path, "emptied", lambda: path.read_text("utf-8"))[1]
    with watched(path) as watch:
        write_atomic(path, "c")
        path.read_text("utf-8")
    assert not watch.was_read  # another file, of the same name


def test_damage_to_answers_is_noticed(tmp_path: Path) -> None:
    found = list(answers_in(tmp_path / "work", lambda *_: True))
    assert {one.damage for one in found} == {*DAMAGES}
    assert {one.outcome for one in found} <= {*GOOD}
    assert REFUSED in {one.outcome for one in found}
    text = corrupt.table(found)
    assert f"{len(found)} damages: " in text
    assert "; 0 unnoticed" in text


@pytest.mark.slow
def test_two_kills_of_a_run_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.kill.PARTS", ("run",))  # the whole campaign takes the others
    monkeypatch.setattr("benchmarks.kill.WHOLES", 1)
    rounds, whole = campaign(tmp_path, kills=2, seed=1)
    assert [one.wrong for one in rounds] == [[] for _ in rounds]
    assert "2 of 2 kills" in told(rounds, whole)


def test_a_key_that_came_twice_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    path.write_text('{"key": 1}\n\n{"key": 2}\n{"key": 1}\n{"ke', encoding="utf-8")
    assert twice(path) == 1


def test_a_campaign_writes_between_its_marks_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- kill -->\nold\n<!-- /kill -->\nb\n", encoding="utf-8")
    write_part("kill", "new", page)
    assert page.read_text("utf-8") == "a\n<!-- kill -->\n\nnew\n\n<!-- /kill -->\nb\n"
    with pytest.raises(ValueError, match="no marks"):
        write_part("other", "new", page)
    for name in ("kill", "corrupt"):
        assert f"<!-- {name} -->" in reliability.PAGE.read_text("utf-8")
