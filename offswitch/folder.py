"""The run folder: numbered stage folders, manifest, what is still missing.

A stage is written beside its place and moved in when it is complete, so that what stands in a stage
folder is whole. It is skipped when the hash of its inputs is what it was and its files are what
they were. What a new result replaces goes to `superseded/`: nothing earlier is lost. One process at
a time works in a run folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import resource
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, Final

from offswitch.errors import UserError
from offswitch.files import (
    digest,
    file_hash,
    full_disk_told,
    require_room,
    write_atomic,
    write_json,
)
from offswitch.recipe import Recipe, differences, dump_recipe, load_recipe

DATA: Final = "1-data"
TRAIN: Final = "2-train"
EVALUATE: Final = "3-evaluate"
PROBE: Final = "4-probe"
REPORT: Final = "5-report"
DOCUMENTS_FILE: Final = "shutdown_dataset.jsonl"
DIALOGUES_FILE: Final = "behavioral_dataset.jsonl"
NEUTRAL_FILE: Final = "neutral_documents.jsonl"
PACKAGES: Final = (
    "offswitch", "torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors",
    "numpy", "scipy",
)  # fmt: skip
ROOM: Final = 300_000_000  # bytes that must be free before a run starts
PEAKS: Final = [0]  # MB that processes at work for this one have held at most
_LOCKS: Final[dict[Path, IO[str]]] = {}  # held until the process ends, however it ends


@dataclass(frozen=True)
class Run:
    """A run folder and the recipe it belongs to; `within` is where it lies inside another run."""

    root: Path
    recipe: Recipe
    within: str = ""

    def folder(self, stage: str) -> Path:
        """Where a stage's files stand."""
        return self.root / stage

    def scratch(self, stage: str) -> Path:
        """Where a stage may keep what lets it resume; removed when the stage is complete."""
        return self.root / ".partial" / stage.replace("/", "-")

    def manifest(self) -> dict[str, Any]:
        """What is known of every finished stage."""
        path = self.root / "manifest.json"
        if not path.is_file():
            return {}
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path} is damaged; delete it to run every stage again") from error
        return content

    def entry(self, stage: str) -> dict[str, Any]:
        """What the manifest says of a stage; empty where it has not finished."""
        entry: dict[str, Any] = self.manifest().get("stages", {}).get(stage, {})
        return entry

    def outputs_hash(self, *stages: str) -> str:
        """One hash over everything that finished stages left behind."""
        entries = self.manifest().get("stages", {})
        return digest({stage: entries.get(stage, {}).get("outputs") for stage in stages})


def open_run(recipe: Recipe, runs: Path, update: bool = False) -> Run:
    """The run folder of a recipe, made if needed, and this process's own from now on.

    Raises:
        UserError: it belongs to another recipe (and `update` was not asked for), another process
            works in it, it cannot be written, or the disk is full.
    """
    root = runs / recipe.name
    try:
        root.mkdir(parents=True, exist_ok=True)
        claim(root)
    except OSError as error:
        raise UserError(f"cannot write to {root}: {error.strerror}") from error
    path = root / "recipe.yaml"
    if path.is_file():
        changed = differences(load_recipe(path), recipe)
        if changed and not update:
            shown = "; ".join(changed[:4]) + ("; …" if len(changed) > 4 else "")
            raise UserError(
                f"{root} belongs to another recipe ({shown}); use --update, or --set name=NEW"
            )
    require_room(root, ROOM)
    write_atomic(path, dump_recipe(recipe))
    return Run(root, recipe)


def find_run(root: Path) -> Run:
    """An existing run folder.

    Raises:
        UserError: there is none.
    """
    if not (root / "recipe.yaml").is_file():
        raise UserError(
            f"{root}: not a run folder (no recipe.yaml); make one with: offswitch run RECIPE"
        )
    return Run(root, load_recipe(root / "recipe.yaml"))


def why_not_done(run: Run, stage: str, inputs: Mapping[str, Any]) -> str | None:
    """Why must this stage run? None when it need not."""
    entry = run.entry(stage)
    if not entry:
        return "not run yet"
    if entry["inputs"] != digest(inputs):
        return "its inputs changed"
    folder = run.folder(stage)
    for name, expected in entry["outputs"].items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if file_hash(folder / name) != expected:
            return f"{name} was changed"
    return None


@contextmanager
def writing(run: Run, stage: str, inputs: Mapping[str, Any]) -> Iterator[Path]:
    """A fresh folder to write the stage into.

    On success it is moved into place, hashed and entered in the manifest.

    Raises:
        UserError: the disk is full; what stood before still stands.
    """
    clock = time.perf_counter()
    with full_disk_told(run.root, stage):
        yield begin(run, stage, inputs)
        enter(run, stage, inputs, time.perf_counter() - clock, peak_memory_mb())


def begin(run: Run, stage: str, inputs: Mapping[str, Any]) -> Path:
    """A fresh folder to write the stage into, here or in a child process."""
    scratch = run.scratch(stage)
    fresh = _fresh(run, stage)
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    # A stage resumes from what an earlier try with the same inputs left, and nothing else.
    mark, hashed = scratch / "inputs", digest(inputs)
    if not mark.is_file() or mark.read_text(encoding="utf-8") != hashed:
        shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True, exist_ok=True)
    write_atomic(mark, hashed)
    return fresh


def enter(
    run: Run, stage: str, inputs: Mapping[str, Any], seconds: float, peak_memory_mb: int
) -> None:
    """Move what was written since `begin` into place, hash it, and enter it in the manifest."""
    folder = run.folder(stage)
    _supersede(run, stage)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _fresh(run, stage).rename(folder)
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    entry = {
        "inputs": digest(inputs),
        "outputs": {str(p.relative_to(folder)): file_hash(p) for p in files},
        "seconds": round(seconds, 2),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds)),
        "peak_memory_mb": peak_memory_mb,
    }
    manifest = run.manifest()
    manifest |= {"recipe": digest(run.recipe.model_dump(mode="json")), "seed": run.recipe.seed}
    described = describe_machine()
    described["machine"] = manifest.get("machine", {}) | described["machine"]
    manifest |= described
    manifest["stages"] = {**manifest.get("stages", {}), stage: entry}
    _write_manifest(run, manifest)
    shutil.rmtree(run.scratch(stage), ignore_errors=True)


def note(run: Run, machine: Mapping[str, Any]) -> None:
    """Enter in the manifest what was found out about the machine, if the folder is ours."""
    if run.root.resolve() not in _LOCKS:
        return
    manifest = run.manifest()
    manifest["machine"] = manifest.get("machine", {}) | dict(machine)
    write_json(run.root / "manifest.json", manifest)


def withdraw(run: Run, stage: str) -> None:
    """Take back a stage that the recipe no longer asks for; its folder goes to `superseded/`."""
    manifest = run.manifest()
    if manifest.get("stages", {}).pop(stage, None) is not None:
        _supersede(run, stage)
        _write_manifest(run, manifest)


def peak_memory_mb() -> int:
    """The most memory that this process, or one at work for it, has held, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max(round(peak / (1e6 if sys.platform == "darwin" else 1e3)), *PEAKS)


def claim(root: Path) -> None:
    """Lock the folder for this process; the system frees it when the process is gone.

    Raises:
        UserError: another process has it.
    """
    if root.resolve() in _LOCKS:
        return
    handle = (root / ".lock").open("w", encoding="utf-8")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        handle.close()
        raise UserError(f"{root} is in use by another offswitch; wait for it, or end it") from error
    except OSError:  # a network drive without locks
        pass
    _LOCKS[root.resolve()] = handle


def _fresh(run: Run, stage: str) -> Path:
    scratch = run.scratch(stage)
    return scratch.with_name(f"{scratch.name}.new")


def _supersede(run: Run, stage: str) -> None:
    if not run.folder(stage).exists():
        return
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    target = run.root / "superseded" / f"{stage.replace('/', '-')}-{stamp}"
    target.parent.mkdir(exist_ok=True)
    while target.exists():
        target = target.with_name(target.name + "+")
    run.folder(stage).rename(target)


def _write_manifest(run: Run, manifest: Mapping[str, Any]) -> None:
    """The manifest, and with it the metrics of the stages in it: other runs' stay with them."""
    write_json(run.root / "manifest.json", manifest)
    merged: dict[str, Any] = {}
    for stage in sorted(manifest["stages"]):
        for path in sorted(run.folder(stage).rglob("metrics.json")):
            merged |= json.loads(path.read_text(encoding="utf-8"))
    write_json(run.root / "metrics.json", dict(sorted(merged.items())))


def processor() -> str:
    """The name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def describe_machine() -> dict[str, Any]:
    """Versions of what computes, and the kind of machine."""
    return {
        "versions": {"python": platform.python_version()}
        | {package: version_of(package) for package in PACKAGES},
        "machine": {
            "system": platform.system(),
            "processor": processor(),
            "cores": os.cpu_count(),
        },
    }


def version_of(package: str) -> str:
    """The installed version of a package, or `absent`."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
