"""A run folder holds whole stages only, and knows what is missing and why."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from offswitch import folder as folder_module
from offswitch.errors import UserError
from offswitch.files import digest
from offswitch.folder import Run, find_run, open_run, why_not_done, writing
from offswitch.recipe import Recipe, build_recipe


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run(Recipe(name="one"), tmp_path)


def _write(run: Run, stage: str, text: str, inputs: Any = None) -> None:
    with writing(run, stage, inputs or {"a": 1}) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file.txt").write_text(text, encoding="utf-8")


def _break(run: Run, stage: str, inputs: Any, error: BaseException) -> None:
    with writing(run, stage, inputs) as folder:
        (folder / "half.txt").write_text("half", encoding="utf-8")
        raise error


def _text(run: Run, stage: str) -> str:
    return (run.folder(stage) / "deep" / "file.txt").read_text("utf-8")


def test_a_stage_is_done_once_and_says_why_it_is_not(run: Run) -> None:
    assert why_not_done(run, "1-data", {"a": 1}) == "not run yet"
    _write(run, "1-data", "x")
    assert why_not_done(run, "1-data", {"a": 1}) is None
    assert why_not_done(run, "1-data", {"a": 2}) == "its inputs changed"
    assert why_not_done(run, "2-train/behavior", {"a": 1}) == "not run yet"
    file = run.folder("1-data") / "deep" / "file.txt"
    file.write_text("y", encoding="utf-8")
    assert why_not_done(run, "1-data", {"a": 1}) == "deep/file.txt was changed"
    file.unlink()
    assert why_not_done(run, "1-data", {"a": 1}) == "deep/file.txt is missing"


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt(), UserError("no")])
def test_an_exception_leaves_the_old_stage_as_it_was(run: Run, error: BaseException) -> None:
    _write(run, "1-data", "old")
    manifest = run.manifest()
    with pytest.raises(type(error)):
        _break(run, "1-data", {"a": 2}, error)
    assert _text(run, "1-data") == "old"
    assert run.manifest() == manifest
    assert why_not_done(run, "1-data", {"a": 1}) is None
    _write(run, "1-data", "new", {"a": 2})
    assert [p.name for p in run.folder("1-data").iterdir()] == ["deep"]


def test_what_is_replaced_is_kept(run: Run) -> None:
    for text in ("one", "two", "three"):
        _write(run, "2-train/behavior", text)
    kept = sorted((run.root / "superseded").iterdir())
    assert {(p / "deep" / "file.txt").read_text("utf-8") for p in kept} == {"one", "two"}
    assert all(p.name.startswith("2-train-behavior-") for p in kept)
    assert _text(run, "2-train/behavior") == "three"


def test_scratch_serves_the_same_inputs_only(run: Run) -> None:
    def broken(inputs: Any) -> list[str]:
        with pytest.raises(RuntimeError):
            _break(run, "2-train/both", inputs, RuntimeError())
        found = sorted(p.name for p in scratch.iterdir() if p.name != "inputs")
        (scratch / f"checkpoint-{len(found) + 1}").mkdir()
        return found

    scratch = run.scratch("2-train/both")

    assert broken({"lr": 1}) == []
    assert broken({"lr": 1}) == ["checkpoint-1"]
    assert broken({"lr": 2}) == []
    _write(run, "2-train/both", "done", {"lr": 2})
    assert not run.scratch("2-train/both").exists()


def test_the_manifest_says_what_when_with_what_and_on_what(run: Run) -> None:
    _write(run, "1-data", "x")
    manifest = run.manifest()
    entry = manifest["stages"]["1-data"]
    assert entry["inputs"] == digest({"a": 1})
    assert list(entry["outputs"]) == ["deep/file.txt"]
    assert entry["seconds"] >= 0
    assert entry["peak_memory_mb"] > 10
    assert time.strptime(entry["started"], "%Y-%m-%dT%H:%M:%SZ")
    assert {"python", "torch", "transformers", "offswitch"} <= manifest["versions"].keys()
    assert manifest["machine"]["cores"] >= 1
    assert manifest["seed"] == 0
    assert str(Path.home()) not in json.dumps(manifest)


def test_a_later_stage_depends_on_what_an_earlier_one_wrote(run: Run) -> None:
    _write(run, "1-data", "x")
    before = run.outputs_hash("1-data")
    _write(run, "1-data", "x", {"a": 2})
    assert run.outputs_hash("1-data") == before
    _write(run, "1-data", "y", {"a": 3})
    assert run.outputs_hash("1-data") != before


def test_metrics_of_all_stages_are_merged_and_replaced_ones_go(run: Run) -> None:
    def metrics(stage: str, content: dict[str, Any]) -> dict[str, Any]:
        with writing(run, stage, {}) as folder:
            (folder / "metrics.json").write_text(json.dumps(content), encoding="utf-8")
        merged: dict[str, Any] = json.loads((run.root / "metrics.json").read_text("utf-8"))
        return merged

    metrics("3-evaluate", {"b": {"value": 1}, "old": {"value": 0}})
    metrics("2-train/behavior", {"a": {"value": 2}})
    merged = metrics("3-evaluate", {"b": {"value": 3}})
    assert merged == {"a": {"value": 2}, "b": {"value": 3}}
    assert list(merged) == ["a", "b"]


def test_a_folder_of_another_recipe_is_refused_unless_updated(tmp_path: Path) -> None:
    open_run(build_recipe({"name": "one", "seed": 1}), tmp_path)
    open_run(build_recipe({"name": "one", "seed": 1}), tmp_path)
    other = build_recipe({"name": "one", "seed": 2, "train": {"lr": 1e-3}})
    with pytest.raises(UserError, match=r"another recipe \(seed: 1 -> 2; train.lr: .* --update"):
        open_run(other, tmp_path)
    assert find_run(tmp_path / "one").recipe.seed == 1
    assert open_run(other, tmp_path, update=True).recipe == find_run(tmp_path / "one").recipe


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run folder"):
        find_run(tmp_path)
    with pytest.raises(UserError, match="not a run folder"):
        find_run(tmp_path / "absent")


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="cannot write to"):
        open_run(Recipe(), tmp_path / "file")


def test_a_damaged_manifest_is_said(run: Run) -> None:
    (run.root / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"manifest\.json and recipe\.yaml do not belong"):
        why_not_done(run, "1-data", {})


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("Error while serializing: IoError(No space left on device (os error 28))"),
    ],
)
def test_a_full_disk_is_one_clear_line(run: Run, error: Exception) -> None:
    _write(run, "1-data", "old")
    with (
        pytest.raises(UserError, match="no room on disk while writing 1-data"),
        writing(run, "1-data", {"a": 2}),
    ):
        raise error
    assert _text(run, "1-data") == "old"


@pytest.mark.parametrize("moment", ["settled", "write_sealed", "move", "write_manifest"])
def test_a_full_disk_at_the_last_moment_is_said_and_what_was_noted_is_not_lost(
    run: Run, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folder_module, moment, full)
    with pytest.raises(UserError, match="no room on disk"):
        _write(run, "1-data", "x")
    monkeypatch.undo()
    assert why_not_done(run, "1-data", {"a": 1}) == "not run yet"
    again = open_run(run.recipe, run.root.parent)
    why = None if moment in ("move", "write_manifest") else "not run yet"
    assert why_not_done(again, "1-data", {"a": 1}) == why


def test_too_little_room_is_refused_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "ROOM", 10**18)
    with pytest.raises(UserError, match="no room on disk"):
        open_run(Recipe(), tmp_path)


# --- one process at a time --------------------------------------------------------------------

_HOLD = """
import sys
from pathlib import Path
from offswitch.recipe import Recipe
from offswitch.folder import open_run
open_run(Recipe(name="one"), Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_two_processes_do_not_work_in_one_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _HOLD, str(tmp_path)]
    holder = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="in use by another offswitch"):
            open_run(Recipe(name="one"), tmp_path)
        open_run(Recipe(name="two"), tmp_path)
        find_run(tmp_path / "one")
    finally:
        holder.kill()
        holder.communicate()
    first = open_run(Recipe(name="one"), tmp_path)
    assert open_run(Recipe(name="one"), tmp_path) == first


def test_where_the_disk_knows_no_locks_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr("offswitch.folder.lock.fcntl.flock", without)
    open_run(Recipe(name="one"), tmp_path)
