"""What stands in a run folder is what was written there: seals, notes, moves into place.

The manifest carries a hash of itself, and one of every file. What is entered of a stage is noted in
`.entries/` before the stage is moved into place: from those notes a kill in between is made good,
and a damaged manifest put together again. The seals tell of damage and mistakes, not of malice:
who changes a file can seal it again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from offswitch.errors import UserError
from offswitch.files import digest, file_hash, read_sealed, settled, write_json, write_sealed
from offswitch.progress import say

RECIPE: Final = "recipe.yaml"
MANIFEST: Final = "manifest.json"
METRICS: Final = "metrics.json"
RERUN: Final = "the command that made this run puts it right"


def scratch_of(root: Path, stage: str) -> Path:
    """Where a stage may keep what lets it resume."""
    return root / ".partial" / stage.replace("/", "-")


def fresh_of(root: Path, stage: str) -> Path:
    """Where a stage is written before it is moved into place."""
    scratch = scratch_of(root, stage)
    return scratch.with_name(f"{scratch.name}.new")


def noted_in(root: Path, stage: str) -> Path:
    """The file of a stage's note."""
    return root / ".entries" / f"{stage.replace('/', '-')}.json"


def read_manifest(root: Path, name: str) -> dict[str, Any]:
    """The manifest of the run of that name; empty where there is none.

    Raises:
        UserError: it is not what the run wrote.
    """
    path = root / MANIFEST
    if (content := read_sealed(path, name)) is None and path.is_file():
        raise UserError(
            f"{path} and {RECIPE} do not belong together: one is damaged, another run's or an"
            f" earlier version's; {RERUN}"
        )
    return content or {}


def write_manifest(root: Path, name: str, manifest: Mapping[str, Any]) -> None:
    """The manifest, and with it the metrics of the stages in it: other runs' stay with them."""
    merged: dict[str, Any] = {}
    for stage, entry in sorted(manifest["stages"].items()):
        known = {n: h for n, h in entry["outputs"].items() if n.rpartition("/")[2] == METRICS}
        for file in sorted({*known} - {n for n, _ in wrong(root / stage, known)}):
            merged |= json.loads((root / stage / file).read_text(encoding="utf-8"))
    write_json(root / METRICS, dict(sorted(merged.items())))
    there = [file for file in (RECIPE, METRICS) if (root / file).is_file()]
    files = {file: file_hash(settled(root / file)) for file in there}
    write_sealed(root / MANIFEST, {**manifest, "files": files}, name)


def wrong(folder: Path, outputs: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Which of the files are not what they were, and in what way."""
    for name, expected in outputs.items():
        if not (folder / name).is_file():
            yield name, "is missing"
        elif file_hash(folder / name) != expected:
            yield name, "was changed"


def unlike(root: Path, manifest: Mapping[str, Any], *names: str) -> list[Path]:
    """Files that are not what the manifest knows; all of a run, or some files and stages."""
    places = {"": manifest.get("files", {})}
    places |= {stage: e.get("outputs", {}) for stage, e in manifest.get("stages", {}).items()}
    found = []
    for stage, outputs in places.items():
        if stage and names and not {stage, stage.partition("/")[0]} & {*names}:
            continue
        asked = {n: h for n, h in outputs.items() if stage or not names or n in names}
        found += [root / stage / file for file, _ in wrong(root / stage, asked)]
    return found


def move(root: Path, stage: str) -> None:
    """Put a stage that was written into its place; what stood there is kept elsewhere."""
    supersede(root, stage)
    (root / stage).parent.mkdir(parents=True, exist_ok=True)
    settled(fresh_of(root, stage).rename(root / stage))


def supersede(root: Path, stage: str) -> None:
    """Move what stands in a stage's place to `superseded/`."""
    if not (root / stage).exists():
        return
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    target = root / "superseded" / f"{stage.replace('/', '-')}-{stamp}"
    target.parent.mkdir(exist_ok=True)
    while target.exists():
        target = target.with_name(target.name + "+")
    (root / stage).rename(target)


def recovered(root: Path, name: str) -> dict[str, Any]:
    """The manifest, with what a kill left unentered; put together again if it is damaged."""
    path = root / MANIFEST
    whole = read_sealed(path, name)
    if whole is None and path.is_file():
        say(f"{path} is damaged, another run's or an earlier version's: put together again")
    manifest = whole or {}
    before = digest(manifest)
    for file in sorted((root / ".entries").glob("*.json")):
        if (noted := read_sealed(file, name)) is None:
            continue  # its stage stands in the manifest, or runs again
        stage, entry = noted["stage"], noted["entry"]
        if manifest.get("stages", {}).get(stage) == entry:
            continue
        if not any(wrong(fresh_of(root, stage), entry["outputs"])):
            move(root, stage)
        elif any(wrong(root / stage, entry["outputs"])):
            continue
        manifest = noted["rest"] | manifest
        manifest["stages"][stage] = entry
    if digest(manifest) != before:
        write_manifest(root, name, manifest)
    elif whole is None:
        path.unlink(missing_ok=True)
    return manifest
