"""What is asked of a session for several arms is done once each, here or side by side."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from offswitch.errors import UserError
from offswitch.folder import Run
from offswitch.model.session import Session
from offswitch.recipe import build_recipe


def told(session: Session, arm: str, book: Path) -> int:
    """Write down that an arm was asked for; the process that did it."""
    with book.open("a", encoding="utf-8") as handle:
        handle.write(f"{session.run.within} {arm}\n")
    return os.getpid()


def refused(session: Session, arm: str) -> None:
    """A mistake of the user's in the run's folder."""
    raise UserError(f"{session.run.root.name}: no {arm}")


def _session(folder: Path, processes: int, within: str = "") -> Session:
    options = [f"processes={processes}", "threads=1", "device=cpu"]
    return Session(Run(folder, build_recipe({}, options), within))


@pytest.mark.parametrize("processes", [1, 2])
def test_each_gives_every_answer_by_name(processes: int, tmp_path: Path) -> None:
    session, book = _session(tmp_path, processes), tmp_path / "book"
    found = dict(session.each("stage", told, {arm: (arm, book) for arm in "abc"}))
    assert {*found} == {*"abc"}
    assert (os.getpid() in found.values()) == (processes == 1)
    assert sorted(book.read_text("utf-8").split()) == [*"abc"]
    with pytest.raises(UserError, match=rf"^{tmp_path.name}: no a$"):
        list(session.each("stage", refused, {"a": ("a",)}))
    again = dict(session.each("stage", told, {"a": ("a", book)}))  # it goes on after that
    assert [*again] == ["a"]


def test_what_was_begun_ahead_is_not_done_again(tmp_path: Path) -> None:
    session, book = _session(tmp_path, 2), tmp_path / "book"
    session.ahead("stage", told, {"a": ("a", book)})
    with session.lent_to(Run(tmp_path, session.recipe, "organisms/1")) as other:
        assert [*dict(other.each("stage", told, {"a": ("a", book)}))] == ["a"]
    found = dict(session.each("stage", told, {arm: (arm, book) for arm in "ab"}))
    assert {*found} == {"a", "b"}
    lines = sorted(line.split() for line in book.read_text("utf-8").splitlines())
    assert lines == [["a"], ["b"], ["organisms/1", "a"]]


def test_without_other_processes_nothing_is_begun_ahead(tmp_path: Path) -> None:
    session, book = _session(tmp_path, 1), tmp_path / "book"
    session.ahead("stage", told, {"a": ("a", book)})
    assert not book.exists()


@pytest.mark.parametrize(
    "other",
    [
        {"chat_template": "plain"},
        {"arms": {"theirs": {"role": "switch", "adapter": "another"}}},
    ],
)
def test_a_recipe_of_another_chat_format_or_tokenizer_is_lent_no_model(
    other: dict[str, Any], tmp_path: Path
) -> None:
    own = {"arms": {"theirs": {"role": "switch", "adapter": "folder"}},
           "train": {"arms": ["theirs"]}, "probe": {"arm": "theirs"}}  # fmt: skip
    session = Session(Run(tmp_path, build_recipe(own, [])))
    assert session.suits(build_recipe({**own, "name": "variant"}, ["train.lr=1e-4"]))
    assert not session.suits(build_recipe({**own, **other}, []))
