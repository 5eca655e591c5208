"""The run folder: numbered stage folders, atomic writes, manifest, what is still missing.

A stage is written beside its place and moved in when it is complete, so that what stands in a stage folder is whole.
It is skipped when the hash of its inputs is what it was and its files are what they were. What a new result replaces
goes to `superseded/`: nothing earlier is lost.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from offswitch.config import Recipe, differences, dump_recipe, load_recipe
from offswitch.embedded import require_room
from offswitch.errors import UserError
from offswitch.machine import describe_machine

DATA: Final = "1-data"
TRAIN: Final = "2-train"
EVALUATE: Final = "3-evaluate"
PROBE: Final = "4-probe"
REPORT: Final = "5-report"
ROOM: Final = 300_000_000


@dataclass(frozen=True)
class Run:
    """A run folder and the recipe it belongs to."""

    root: Path
    recipe: Recipe

    def folder(self, stage: str) -> Path:
        """Where a stage's files stand."""
        return self.root / stage

    def scratch(self, stage: str) -> Path:
        """Where a stage may keep what lets it resume; removed when the stage is complete."""
        return self.root / ".partial" / stage.replace("/", "-")

    def manifest(self) -> dict[str, Any]:
        """What is known of every finished stage."""
        path = self.root / "manifest.json"
        content: dict[str, Any] = (
            json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        )
        return content

    def outputs_hash(self, *stages: str) -> str:
        """One hash over everything that finished stages left behind."""
        entries = self.manifest().get("stages", {})
        return digest({stage: entries.get(stage, {}).get("outputs") for stage in stages})


def open_run(recipe: Recipe, runs: Path, update: bool = False) -> Run:
    """The run folder of a recipe, made if needed.

    Raises:
        UserError: it belongs to another recipe (and `update` was not asked for), or the disk is full.
    """
    root = runs / recipe.name
    root.mkdir(parents=True, exist_ok=True)
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
    entry = run.manifest().get("stages", {}).get(stage)
    if entry is None:
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
    """A fresh folder to write the stage into; moved into place, hashed and entered in the manifest on success."""
    started, clock = time.time(), time.perf_counter()
    fresh = run.root / ".partial" / (stage.replace("/", "-") + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        yield fresh
    except OSError as error:
        if error.errno == 28:
            raise UserError(f"no room on disk while writing {stage} in {run.root}") from error
        raise
    _supersede(run, stage)
    run.folder(stage).parent.mkdir(parents=True, exist_ok=True)
    os.replace(fresh, run.folder(stage))
    shutil.rmtree(run.scratch(stage), ignore_errors=True)
    folder = run.folder(stage)
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    entry = {
        "inputs": digest(inputs),
        "outputs": {str(p.relative_to(folder)): file_hash(p) for p in files},
        "seconds": round(time.perf_counter() - clock, 2),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "peak_memory_mb": peak_memory_mb(),
    }
    _enter(run, stage, entry)


def peak_memory_mb() -> int:
    """The most memory this process has held, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3))


def digest(value: Any) -> str:
    """A short hash of any JSON value."""
    text = json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def file_hash(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_atomic(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never half of it."""
    scratch = path.with_name(path.name + ".new")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)


def _supersede(run: Run, stage: str) -> None:
    if not run.folder(stage).exists():
        return
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    target = run.root / "superseded" / f"{stage.replace('/', '-')}-{stamp}"
    target.parent.mkdir(exist_ok=True)
    while target.exists():
        target = target.with_name(target.name + "+")
    os.replace(run.folder(stage), target)


def _enter(run: Run, stage: str, entry: Mapping[str, Any]) -> None:
    manifest = run.manifest()
    manifest |= {"recipe": digest(run.recipe.model_dump(mode="json")), "seed": run.recipe.seed}
    manifest |= describe_machine()
    manifest["stages"] = {**manifest.get("stages", {}), stage: dict(entry)}
    write_atomic(run.root / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    merged: dict[str, Any] = {}
    for path in sorted(run.root.glob("[0-9]-*/**/metrics.json")):
        merged |= json.loads(path.read_text(encoding="utf-8"))
    write_atomic(
        run.root / "metrics.json", json.dumps(dict(sorted(merged.items())), indent=1) + "\n"
    )
