"""Nothing is published unasked, and nothing here reaches a network."""

from __future__ import annotations

import io
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from offswitch.errors import UserError
from offswitch.export.push import push


class _Hub:
    """Stands in for the hub, which no test may reach."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.error = error

    def create_repo(self, repository: str, **options: Any) -> None:
        self.calls.append(("create", {"repo_id": repository, **options}))
        if self.error:
            raise self.error

    def upload_folder(self, **options: Any) -> None:
        self.calls.append(("upload", options))


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.txt").write_text("a")
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("said", "pushed"),
    [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("", False)],
)
def test_a_terminal_is_asked(
    said: str, pushed: bool, folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "stdin", _Terminal(said))
    hub = _Hub()
    assert push(folder, "me/switch", False, lambda _: None, hub) is pushed
    assert "push 1 files, 0 MB, to me/switch? [y/N]" in capsys.readouterr().out
    assert [name for name, _ in hub.calls] == (["create", "upload"] if pushed else [])


def test_without_a_terminal_it_takes_a_yes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    hub, told = _Hub(), list[str]()
    with pytest.raises(UserError, match="there is no terminal; add --yes"):
        push(folder, "me/switch", False, told.append, hub)
    assert hub.calls == []
    assert push(folder, "me/switch", True, told.append, hub)
    created, uploaded = (options for _, options in hub.calls)
    assert created["private"] is True
    assert (uploaded["repo_id"], uploaded["folder_path"]) == ("me/switch", str(folder))
    assert told == ["pushed: https://huggingface.co/me/switch"]


def test_what_the_hub_refuses_is_one_line(folder: Path) -> None:
    hub = _Hub(OSError("no route\nto host"))
    with pytest.raises(UserError, match="--push me/switch: no route to host; the folder stands"):
        push(folder, "me/switch", True, lambda _: None, hub)


def test_a_hub_that_cannot_be_reached_is_one_line(folder: Path) -> None:
    silent = HfApi(endpoint="http://127.0.0.1:9", token="hf_planted")
    with pytest.raises(UserError, match=r"refused; the folder stands in") as told:
        push(folder, "me/switch", True, lambda _: None, silent)
    assert "hf_planted" not in "".join(traceback.format_exception(told.value))
