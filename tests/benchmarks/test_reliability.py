"""A short slice of the campaigns: a damage to each way of keeping things, and two kills."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import corrupt, reliability
from benchmarks.damage import DAMAGES
from benchmarks.kill import campaign, told, twice
from benchmarks.reliability import write_part


def test_damage_to_answers_is_noticed(tmp_path: Path) -> None:
    found = list(corrupt._answers(tmp_path / "work"))
    assert {one.damage for one in found} == {*DAMAGES}
    assert {one.outcome for one in found} <= {*corrupt.GOOD}
    assert corrupt.REFUSED in {one.outcome for one in found}
    text = corrupt.table(found, 1.0)
    assert f"{len(found)} damages in 1 s" in text
    assert "; 0 unnoticed" in text


@pytest.mark.slow
def test_two_kills_lose_nothing(tmp_path: Path) -> None:
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
