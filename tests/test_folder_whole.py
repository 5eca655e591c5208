"""Damage to a run folder is noticed and made good; a lock says whose it is."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offswitch.errors import UserError
from offswitch.folder import Run, find_run, lock, open_run, whole_run, why_not_done, writing
from offswitch.folder.whole import fresh_of, noted_in
from offswitch.recipe import Recipe

INPUTS = {"a": 1}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of two finished stages."""
    run = open_run(Recipe(name="one"), tmp_path)
    for stage in ("1-data", "3-evaluate"):
        with writing(run, stage, INPUTS) as folder:
            (folder / "rows.txt").write_text(stage, encoding="utf-8")
            content = {f"{stage}/rate": {"value": 1}}
            (folder / "metrics.json").write_text(json.dumps(content), encoding="utf-8")
    return run


def again(run: Run) -> Run:
    return open_run(run.recipe, run.root.parent)


@pytest.mark.parametrize(
    "name", ["recipe.yaml", "metrics.json", "1-data/rows.txt", "3-evaluate/metrics.json"]
)
@pytest.mark.parametrize("how", ["flip", "empty", "delete"])
def test_a_reader_names_the_file_that_is_not_as_it_was_written(
    run: Run, name: str, how: str
) -> None:
    assert whole_run(run.root).recipe == run.recipe
    path = run.root / name
    content = path.read_bytes()
    path.write_bytes(b"" if how == "empty" else content[:-2] + bytes([content[-2] ^ 1]) + b"\n")
    if how == "delete":
        path.unlink()
    with pytest.raises(UserError, match=path.name):
        whole_run(run.root)
    again(run)
    if "/" not in name:
        assert path.read_bytes() == content
        whole_run(run.root)
    else:
        assert why_not_done(run, name.partition("/")[0], INPUTS)


def test_a_reader_of_one_stage_minds_no_other(run: Run) -> None:
    (run.root / "1-data" / "rows.txt").unlink()
    whole_run(run.root, "3-evaluate")
    with pytest.raises(UserError, match=r"rows\.txt is not what the run wrote"):
        whole_run(run.root, "1-data", "3-evaluate")


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "edited", "of another run", "unsealed"])
def test_a_manifest_that_was_changed_is_refused_and_put_together_again(
    run: Run, tmp_path: Path, content: str
) -> None:
    path, before = run.root / "manifest.json", run.manifest()
    whole: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if content == "edited":
        whole["stages"]["1-data"]["inputs"] = "0" * 24
    elif content == "unsealed":
        del whole["seal"]
    elif content == "of another run":
        other = open_run(Recipe(name="two"), tmp_path)
        with writing(other, "1-data", INPUTS):
            pass
        whole = json.loads((other.root / "manifest.json").read_text("utf-8"))
    path.write_text(json.dumps(whole) if " " in content or "ed" in content else content, "utf-8")
    with pytest.raises(UserError, match=r"manifest\.json and recipe\.yaml do not belong together"):
        find_run(run.root).manifest()
    assert {**again(run).manifest(), "versions": 0} == {**before, "versions": 0}
    assert why_not_done(run, "3-evaluate", INPUTS) is None


def test_a_lost_manifest_is_put_together_again(run: Run) -> None:
    before = run.manifest()
    (run.root / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"manifest\.json is missing"):
        whole_run(run.root)
    assert again(run).manifest()["stages"] == before["stages"]


def test_where_no_note_is_left_stages_run_again(run: Run) -> None:
    (run.root / "manifest.json").write_text("{", encoding="utf-8")
    noted_in(run.root, "1-data").write_text("{", encoding="utf-8")
    again(run)
    assert why_not_done(run, "1-data", INPUTS) == "not run yet"
    assert why_not_done(run, "3-evaluate", INPUTS) is None
    shutil.rmtree(run.root / ".entries")
    (run.root / "manifest.json").unlink()
    again(run)
    assert run.manifest() == {}


@pytest.mark.parametrize("moved", [False, True])
def test_a_stage_that_was_whole_when_it_was_killed_is_entered_at_the_next_start(
    run: Run, moved: bool
) -> None:
    """The kill comes after the note, before or after the move."""
    before, old = (run.root / "manifest.json").read_bytes(), run.root / "1-data"
    with writing(run, "1-data", {"a": 2}) as folder:
        (folder / "rows.txt").write_text("new", encoding="utf-8")
    (run.root / "manifest.json").write_bytes(before)
    if not moved:
        old.rename(fresh_of(run.root, "1-data"))
        next((run.root / "superseded").iterdir()).rename(old)
    assert why_not_done(again(run), "1-data", {"a": 2}) is None
    assert (old / "rows.txt").read_text("utf-8") == "new"
    (kept,) = (run.root / "superseded").iterdir()
    assert (kept / "rows.txt").read_text("utf-8") == "1-data"


def test_a_note_of_files_that_are_gone_enters_nothing(run: Run) -> None:
    before = (run.root / "manifest.json").read_bytes()
    with writing(run, "1-data", {"a": 2}) as folder:
        (folder / "rows.txt").write_text("new", encoding="utf-8")
    (run.root / "manifest.json").write_bytes(before)
    (run.root / "1-data" / "rows.txt").write_text("half", encoding="utf-8")
    assert why_not_done(again(run), "1-data", {"a": 2}) == "its inputs changed"


# --- the lock -------------------------------------------------------------------------------------


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A drive without locks."""

    def without(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", without)


@pytest.fixture
def another() -> Iterator[int]:
    """A process that lives."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process.pid
    process.kill()
    process.communicate()


def held_by(root: Path, pid: int, host: str, silent: float = 0) -> None:
    """Leave a lock file of a process that was last heard of so many seconds ago."""
    root.mkdir(exist_ok=True)
    holder = {"pid": pid, "host": host, "since": "2026-01-02T03:04:05Z"}
    (root / ".lock").write_text(json.dumps(holder), encoding="utf-8")
    then = time.time() - silent
    os.utime(root / ".lock", (then, then))


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_living_process_of_this_machine_has_the_folder(
    tmp_path: Path, another: int
) -> None:
    held_by(tmp_path, another, platform.node(), silent=1000)
    with pytest.raises(UserError, match=rf"process {another} on .*since 2026-01-02T03:04:05Z"):
        lock.claim(tmp_path)
    held_by(tmp_path, 2**22 + 1, platform.node())
    lock.claim(tmp_path)
    assert json.loads((tmp_path / ".lock").read_text("utf-8"))["pid"] == os.getpid()


@pytest.mark.parametrize("locks", [True, False])
def test_another_machine_has_the_folder_as_long_as_it_is_heard(
    tmp_path: Path, locks: bool, request: pytest.FixtureRequest
) -> None:
    if not locks:
        request.getfixturevalue("no_locks")
    held_by(tmp_path, 1, "elsewhere", silent=lock.SILENT / 2)
    with pytest.raises(UserError, match=r"process 1 on elsewhere, since .* if it is gone, wait"):
        lock.claim(tmp_path)
    held_by(tmp_path, 1, "elsewhere", silent=lock.SILENT * 2)
    lock.claim(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', "\x00" * 40])
@pytest.mark.usefixtures("no_locks")
def test_a_lock_file_that_names_nobody_holds_nobody_off(tmp_path: Path, content: str) -> None:
    (tmp_path / ".lock").write_text(content, encoding="utf-8")
    lock.claim(tmp_path)


_HOLD = """
import sys, time
from pathlib import Path
from offswitch.errors import stop_cleanly, user_errors
from offswitch.folder.lock import claim
stop_cleanly()
with user_errors():
    claim(Path(sys.argv[1]))
    try:  # whoever reads the word may send a signal at once
        print("held", flush=True)
        time.sleep(60)
    finally:
        if len(sys.argv) > 2:
            print("slow", flush=True)
            time.sleep(60)
"""


def holding(root: Path, *more: str) -> subprocess.Popen[str]:
    """A process that has the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(root), *more],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_who_has_a_folder_is_told_and_a_killed_one_has_it_no_more(tmp_path: Path) -> None:
    process = holding(tmp_path)
    with pytest.raises(UserError, match=f"process {process.pid} on {platform.node()}, since 2"):
        lock.claim(tmp_path)
    process.kill()
    process.communicate()
    assert (tmp_path / ".lock").read_text("utf-8")
    lock.claim(tmp_path)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_cleanly_and_says_how_to_go_on(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = holding(tmp_path)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == code
    assert said == "offswitch: interrupted; the same command goes on from here\n"
    assert not (tmp_path / ".lock").read_text("utf-8")


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    process = holding(tmp_path, "slow")
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "slow\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (130, "")
