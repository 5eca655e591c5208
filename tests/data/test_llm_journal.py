"""The journal keeps what was written before a kill, and refuses what it cannot read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from offswitch.data.llm.journal import Entry, open_journal, read_journal
from offswitch.errors import UserError

GOOD = Entry("draft/a", "1", {"title": "T\u2028", "content": "C\r"}, None, 10, 5)
BAD = Entry("draft/b", "2", None, "it is not JSON", 10, 5, 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of two answers."""
    path = tmp_path / "answers.jsonl"
    with open_journal(path) as journal:
        journal.add(GOOD)
        journal.add(BAD)
    return path


def test_an_answer_is_on_disk_before_the_next_step(tmp_path: Path) -> None:
    with open_journal(tmp_path / "answers.jsonl") as journal:
        journal.add(GOOD)
        assert read_journal(journal.path).usable == {"1": GOOD}


def test_answers_are_found_again_usable_or_not(path: Path) -> None:
    journal = read_journal(path)
    assert (journal.usable, journal.unusable) == ({"1": GOOD}, {"2": [BAD]})
    assert list(journal.entries(["2", "3", "1"])) == [BAD, GOOD]
    assert dict(journal.kinds()) == {"draft": 1}
    assert path.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_cut_last_line_is_taken_off_and_the_next_line_is_whole(path: Path, cut: int) -> None:
    path.write_bytes(path.read_bytes()[:-cut])
    assert read_journal(path).unusable == {}
    with open_journal(path) as journal:
        assert journal.usable == {"1": GOOD}
        journal.add(replace(BAD, key="3"))
    again = read_journal(path)
    assert (set(again.usable), set(again.unusable)) == ({"1"}, {"3"})


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"task": "x"}', b"\xff"])
def test_damage_before_the_last_line_is_named(path: Path, line: bytes) -> None:
    path.write_bytes(line + b"\n" + path.read_bytes())
    with pytest.raises(UserError, match=r"answers\.jsonl, line 1: is damaged"), open_journal(path):
        pass


def test_a_journal_that_is_only_read_takes_nothing(path: Path) -> None:
    with pytest.raises(RuntimeError, match="reading only"):
        read_journal(path).add(GOOD)


def test_no_file_is_no_answers_and_reading_makes_none(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "absent.jsonl").usable == {}
    assert list(tmp_path.iterdir()) == []
