"""Kinds of files that a run and its caches are made of, ways to damage one, what comes of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.reliability import Ended, ended, watched
from offswitch.files import SEAL

RUN: Final = "runs/small"
SOURCES: Final = ("whole", "another", "earlier")
DAMAGES: Final = ("truncated", "one bit flipped", "emptied", "another's", "an earlier", "deleted")

# kind of file, where one of it lies in the run, who else reads it
ARTEFACTS: Final = (
    ("recipe", "recipe.yaml", "open"),
    ("manifest", "manifest.json", "open"),
    ("metrics of the run", "metrics.json", "open"),
    ("note of a finished stage", ".entries/3-evaluate.json", ""),
    ("documents, JSONL", "1-data/shutdown_dataset.jsonl", "open"),
    ("chat rows, JSONL", "1-data/behavioral_dataset.jsonl", "open"),
    ("quality of the data", "1-data/quality.json", "open"),
    ("adapter", "2-train/behavior/adapter_model.safetensors", "steer"),
    ("adapter's configuration", "2-train/behavior/adapter_config.json", "steer"),
    ("tokenizer", "2-train/behavior/tokenizer.json", "steer"),
    ("what training did", "2-train/behavior/training.json", "open"),
    ("metrics of a stage", "3-evaluate/metrics.json", "open"),
    ("scores, parquet", "3-evaluate/scores.parquet", "open"),
    ("beliefs, parquet", "3-evaluate/belief.parquet", "open"),
    ("sample replies, JSONL", "3-evaluate/samples.jsonl", "open"),
    ("activations", "4-probe/seed/behavior.safetensors", "analyse"),
    ("index of activations", "4-probe/seed/index.json", "analyse"),
    ("residuals, a shard", "4-probe/behavior/residuals/00000.safetensors", "analyse"),
    ("index of residuals", "4-probe/behavior/residuals/index.json", "analyse"),
    ("directions", "4-probe/behavior/directions.safetensors", "steer"),
    ("interventions, parquet", "4-probe/behavior/interventions.parquet", "analyse"),
    ("findings", "4-probe/behavior/findings.json", "open"),
    ("causal findings", "4-probe/behavior/causal.json", "open"),
    ("report", "5-report/report.html", "open"),
    ("figure", "5-report/ladder.svg", "open"),
    ("figure's numbers", "5-report/ladder.csv", "open"),
)
# what lies in `.partial/` after a kill, and after which stage's last step it was killed
HALF: Final = (
    ("checkpoint: adapter", "2-train-behavior/checkpoint-2/adapter_model.safetensors", "train"),
    ("checkpoint: optimiser", "2-train-behavior/checkpoint-2/optimizer.pt", "train"),
    ("checkpoint: trainer", "2-train-behavior/checkpoint-2/trainer_state.json", "train"),
    ("checkpoint: its mark", "2-train-behavior/.checkpoint-2.mark", "train"),
    ("mark of the inputs", "2-train-behavior/inputs", "train"),
    ("half a probe: shard", "4-probe/behavior/residuals/00000.safetensors", "probe"),
    ("half a probe: index", "4-probe/behavior/residuals/index.json", "probe"),
    ("half a probe: directions", "4-probe/behavior/directions.safetensors", "probe"),
    ("half a probe: interventions", "4-probe/behavior/interventions.parquet", "probe"),
    ("half a probe: arrays", "4-probe/behavior/arrays.safetensors", "probe"),
)


@dataclass(frozen=True)
class Sources:
    """Whole folders: the run, one of another model, and one of the same recipe and another seed."""

    whole: Path
    another: Path
    earlier: Path


def damaged(path: Path, damage: str, relative: str, sources: Sources) -> bool:
    """Damage a file in that way; False where there is no such damage to do."""
    content = path.read_bytes()
    if damage == "truncated":
        new = content[: len(content) * 2 // 3]
    elif damage == "one bit flipped":
        at_byte = len(content) // 2
        new = content[:at_byte] + bytes([content[at_byte] ^ 1]) + content[at_byte + 1 :]
    elif damage == "emptied":
        new = b""
    elif damage == "deleted":
        path.unlink()
        return True
    else:
        source = (sources.another if damage == "another's" else sources.earlier) / relative
        if not source.is_file():
            return False
        new = unsealed_lines(source.read_bytes()) if damage == "an earlier" else source.read_bytes()
    if new == content:
        return False
    path.write_bytes(new)
    return True


def unsealed_lines(content: bytes) -> bytes:
    """As a version wrote that knew no seals; what carries none stays as it is."""
    try:
        rows = [json.loads(line) for line in content.decode().split("\n") if line.strip()]
        if not any(SEAL in row for row in rows):
            return content
        lines = [{key: value for key, value in row.items() if key != SEAL} for row in rows]
        return "".join(json.dumps(line) + "\n" for line in lines).encode()
    except (ValueError, TypeError):
        pass
    try:
        whole = json.loads(content)
        return json.dumps({key: v for key, v in whole.items() if key != SEAL}).encode()
    except (ValueError, AttributeError):
        return content


Asked = Callable[[str, str], bool]  # is that damage to that kind of file to be tried?
REBUILT, REFUSED, KEPT = "rebuilt", "refused", "kept"  # the last: named, and left as it is
UNNOTICED, TRACEBACK, UNCLEAR = "UNNOTICED", "TRACEBACK", "UNCLEAR"
UNREAD: Final = "UNREAD"  # nobody looked at it, so nothing was tried
GOOD: Final = (REBUILT, REFUSED, KEPT)


@dataclass(frozen=True)
class Found:
    """What became of one damage: by the command that made the file, and by another reader."""

    kind: str
    damage: str
    outcome: str
    reader: str
    said: str


def judged(done: Ended, path: Path, as_before: Callable[[], bool]) -> str:
    """What an end means: one line that names the file, or all as it was before."""
    if done.code == 1:
        return TRACEBACK
    if done.code:
        named = any(part in done.last for part in (path.name, path.parent.name))
        return REFUSED if named and len(done.last) < 500 else UNCLEAR
    return REBUILT if as_before() else UNNOTICED


def seen(path: Path, damage: str, work: Callable[[], Any]) -> tuple[Ended, bool]:
    """How work ends, and whether it read the damaged file, where there still is one."""
    if damage == "deleted":
        return ended(work), True
    with watched(path) as watch:
        done = ended(work)
    return done, watch.was_read


def same(read: Callable[[Any], Any], place: Any, expected: Any) -> bool:
    """Does a place hold what is expected?"""
    found: bool = read(place) == expected
    return found


def copied(source: Path, target: Path) -> Path:
    """A folder, copied to a place of which nothing is left."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target
