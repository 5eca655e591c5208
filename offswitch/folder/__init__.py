"""The run folder: numbered stage folders, manifest, what is still missing.

A stage is written beside its place and moved in when it is complete, so that what stands in a stage
folder is whole. What is entered of it lies in `.entries/` before it is moved, so that a kill in
between costs nothing, and the manifest can be put together again. It is skipped when the hash of
its inputs is what it was and its files are what they were. What a new result replaces goes to
`superseded/`: nothing earlier is lost. One process at a time works in a run folder.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from offswitch.errors import UserError
from offswitch.files import (
    digest,
    file_hash,
    full_disk_told,
    require_room,
    settled,
    write_atomic,
    write_sealed,
)
from offswitch.folder.lock import claim, holds
from offswitch.folder.provenance import describe_machine, peak_memory_mb
from offswitch.folder.whole import (
    MANIFEST,
    METRICS,
    RECIPE,
    RERUN,
    fresh_of,
    move,
    noted_in,
    read_manifest,
    recovered,
    scratch_of,
    supersede,
    unlike,
    write_manifest,
    wrong,
)
from offswitch.recipe import Recipe, differences, dump_recipe, load_recipe

DATA: Final = "1-data"
TRAIN: Final = "2-train"
EVALUATE: Final = "3-evaluate"
PROBE: Final = "4-probe"
REPORT: Final = "5-report"
ENDURE: Final = "6-endure"
SURVIVAL: Final = f"{ENDURE}/summary"
DOCUMENTS_FILE: Final = "shutdown_dataset.jsonl"
DIALOGUES_FILE: Final = "behavioral_dataset.jsonl"
NEUTRAL_FILE: Final = "neutral_documents.jsonl"
CONTROL_FILE: Final = "control_documents.jsonl"  # neutral ones, for an arm that reads these alone
ROOM: Final = 300_000_000  # bytes that must be free before a run starts


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
        return scratch_of(self.root, stage)

    def manifest(self) -> dict[str, Any]:
        """What is known of every finished stage; empty where none is.

        Raises:
            UserError: it is not what this run wrote.
        """
        return read_manifest(self.root, self.recipe.name)

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
    _take(root)
    run = Run(root, recipe)
    with full_disk_told(root, MANIFEST):
        known = recovered(root, recipe.name)
    path, ours = root / RECIPE, digest(recipe.model_dump(mode="json"))
    # A recipe that nobody here changed says nothing, where the manifest knows what it was.
    damaged = known.get("recipe") == ours and unlike(root, known, RECIPE)
    if path.is_file() and not damaged:
        different = differences(load_recipe(path), recipe)
        if different and not update:
            shown = "; ".join(different[:4]) + ("; …" if len(different) > 4 else "")
            raise UserError(
                f"{root} belongs to another recipe ({shown}); use --update, or --set name=NEW"
            )
    require_room(root, ROOM)
    with full_disk_told(root, RECIPE):
        write_atomic(path, dump_recipe(recipe))
        if known.get("recipe", ours) != ours or unlike(root, known, RECIPE, METRICS):
            write_manifest(root, recipe.name, known | {"recipe": ours, "seed": recipe.seed})
    return run


def _take(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        claim(root)
    except OSError as error:
        raise UserError(f"cannot write to {root}: {error.strerror}") from error


def reopen_run(root: Path) -> Run:
    """An existing run folder by the recipe in it, this process's own from now on.

    What a kill left unentered is entered.

    Raises:
        UserError: there is none, its recipe is not what it was, another process works in it, it
            cannot be written, or the disk is full.
    """
    run = find_run(root)
    _take(root)
    if damaged := unlike(root, run.manifest(), RECIPE):  # nobody else knows what it was
        raise UserError(f"{damaged[0]} is not what the run wrote; {RERUN}")
    require_room(root, ROOM)
    with full_disk_told(root, MANIFEST):
        known = recovered(root, run.recipe.name)
        if unlike(root, known, METRICS):
            write_manifest(root, run.recipe.name, known)
    return run


def find_run(root: Path) -> Run:
    """An existing run folder.

    Raises:
        UserError: there is none.
    """
    if not (root / RECIPE).is_file():
        raise UserError(
            f"{root}: not a run folder (no {RECIPE}); make one with: offswitch run RECIPE"
        )
    return Run(root, load_recipe(root / RECIPE))


def whole_run(root: Path, *stages: str) -> Run:
    """An existing run folder whose files are what the run wrote; those of all stages, or of some.

    Raises:
        UserError: there is none; or a file was cut off, changed, exchanged or lost since.
    """
    run = find_run(root)
    if not (manifest := run.manifest()) and any(root.glob("[0-9]-*")):
        raise UserError(f"{root / MANIFEST} is missing; {RERUN}")
    names = (RECIPE, METRICS, *stages) if stages else ()
    for path in unlike(root, manifest, *names):
        raise UserError(f"{path} is not what the run wrote (changed, cut off or missing); {RERUN}")
    return run


def why_not_done(run: Run, stage: str, inputs: Mapping[str, Any]) -> str | None:
    """Why must this stage run? None when it need not."""
    entry = run.entry(stage)
    if not entry:
        return "not run yet"
    if entry["inputs"] != digest(inputs):
        return "its inputs changed"
    return next((" ".join(one) for one in wrong(run.folder(stage), entry["outputs"])), None)


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
    fresh = fresh_of(run.root, stage)
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
    """Hash what was written since `begin`, note it, move it into place, enter it in the manifest.

    After a kill at any moment since the note, `open_run` does the rest.
    """
    fresh = fresh_of(run.root, stage)
    files = sorted(p for p in fresh.rglob("*") if p.is_file())
    entry = {
        "inputs": digest(inputs),
        "outputs": {str(p.relative_to(fresh)): file_hash(settled(p)) for p in files},
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
    noted = {"stage": stage, "entry": entry, "rest": {**manifest, "stages": {}}}
    noted_in(run.root, stage).parent.mkdir(exist_ok=True)
    write_sealed(noted_in(run.root, stage), noted, run.recipe.name)
    move(run.root, stage)
    write_manifest(run.root, run.recipe.name, manifest)
    shutil.rmtree(run.scratch(stage), ignore_errors=True)


def note(run: Run, machine: Mapping[str, Any]) -> None:
    """Enter in the manifest what was found out about the machine, if the folder is ours."""
    if holds(run.root):
        manifest = run.manifest()
        manifest["machine"] = manifest.get("machine", {}) | dict(machine)
        write_sealed(run.root / MANIFEST, manifest, run.recipe.name)


def withdraw(run: Run, stage: str) -> None:
    """Take back a stage that the recipe no longer asks for; its folder goes to `superseded/`."""
    manifest = run.manifest()
    if manifest.get("stages", {}).pop(stage, None) is not None:
        noted_in(run.root, stage).unlink(missing_ok=True)
        supersede(run.root, stage)
        write_manifest(run.root, run.recipe.name, manifest)
