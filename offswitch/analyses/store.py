"""Between disk and analyses: collected arrays as Views, findings as JSON."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import TypeAdapter
from safetensors import safe_open

from offswitch.analyses.analysis import Analysis, Array, Finding, Views
from offswitch.analyses.candidates import MEAN, TRAINED, WHITENED
from offswitch.analyses.causal import NATURAL, SHUFFLED, Causal
from offswitch.analyses.causal_rows import causal
from offswitch.analyses.choice import Choice
from offswitch.analyses.directions import FILE as DIRECTIONS
from offswitch.analyses.directions import load_directions, unit
from offswitch.analyses.interventions import FILE as INTERVENTIONS
from offswitch.analyses.interventions import read_interventions
from offswitch.analyses.nulls import RANDOM
from offswitch.analyses.shards import naming_damage, read_rows
from offswitch.errors import UserError
from offswitch.files import write_atomic, write_json

SEED: Final = "seed"
BATTERY: Final = "battery.json"
RESIDUALS: Final = "residuals"
ARRAYS: Final = "arrays.safetensors"
SETS: Final = "heads/together/"
COMPARED: Final = (MEAN, WHITENED, TRAINED, SHUFFLED, NATURAL)
_CAUSAL: Final = "causal.json"


def load_views(folder: Path, arm: str) -> Views:
    """What was collected, seen as one arm with the trigger in the slot; read when asked for.

    Raises:
        UserError: nothing was collected there, or not for this arm.
    """
    if not (folder / "index.json").is_file():
        raise UserError(f"{folder}: no activations there; run the probe stage first")
    with naming_damage(folder):
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    if arm not in index["arms"]:
        raise UserError(
            f"{folder}: no activations of arm '{arm}'; there are {', '.join(index['arms'])}"
        )
    facts: dict[str, Array] = {key: np.array(index[key]) for key in ("prompts", "eos_id", "pad_id")}
    facts["vocab"] = np.array(vocab, dtype=np.dtypes.StringDType())

    def fetch(path: str) -> Array:
        where, _, name = path.partition("/")
        return facts[name] if where == "index" else _tensor(folder / f"{where}.safetensors", name)

    return Views(fetch, arm, tuple(index["arms"]), index["symbols"])


def load_evidence(folder: Path, arm: str) -> Views:
    """What the battery measured, seen as one arm; paths are ARM/resid/PART/KEY and ARM/NAME.

    `index/asked/PART/KEY` are the questions of a group's prompts.

    Raises:
        UserError: nothing was measured there, or not of this arm.
    """
    if not (folder / BATTERY).is_file():
        raise UserError(f"{folder}: no measurements there; run the probe stage first")
    with naming_damage(folder):
        index = json.loads((folder / BATTERY).read_text(encoding="utf-8"))
        vocab = json.loads((folder / SEED / "vocab.json").read_text(encoding="utf-8"))
    if arm not in index["arms"]:
        raise UserError(f"{folder}: arm '{arm}' was not measured; there are {index['arms']}")
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(index["rows"]):
        groups.setdefault(f"{row['part']}/{row['key']}", []).append(i)
    facts: dict[str, Array] = {"vocab": np.array(vocab, dtype=np.dtypes.StringDType())}
    for group, at in groups.items():
        facts[f"asked/{group}"] = np.array([index["rows"][i]["question"] for i in at])

    @functools.lru_cache(maxsize=128)
    def fetch(path: str) -> Array:
        where, _, name = path.partition("/")
        if where == "index":
            return facts[name]
        kind, _, group = name.partition("/")
        if kind == "resid":
            return read_rows(folder / where / RESIDUALS, groups[group])
        return _tensor(folder / where / ARRAYS, name)

    path = folder / arm / ARRAYS
    with naming_damage(path), safe_open(path, framework="numpy") as tensors:
        names = list(tensors.keys())
    keys = [name.removeprefix(SETS) for name in names if name.startswith(SETS + RANDOM)]
    symbols = {key: f"{key} heads" for key in keys} | index["symbols"]
    return Views(fetch, arm, tuple(index["arms"]), symbols)


def measure_causal(folder: Path) -> Causal | None:
    """What an arm's interventions say; None where none were made, or on fewer than two questions.

    Fewer are left where the twins of the others do not align.
    """
    if not (folder / INTERVENTIONS).is_file():
        return None
    directions, facts = load_directions(folder / DIRECTIONS)
    chosen = [Choice(**one) for one in facts.chosen]
    rows = read_interventions(folder / INTERVENTIONS)
    exchanged = rows.where(part="test", kind="whole")
    tried = [exchanged.where(position=where).values("question") for where in ("last", "after")]
    if min(map(len, tried)) < 2:
        return None
    found = causal(facts.arm, rows, chosen, facts.blocks)
    block = chosen[0].block
    own = unit(directions[chosen[0].direction][block])[0]
    there = {name: directions[name][block] for name in COMPARED if name in directions}
    made = {name: row for name, row in there.items() if np.isfinite(row).all()}
    cosines: dict[str, float] = {n: float(own @ unit(row)[0]) for n, row in made.items()}
    return replace(found, cosines=cosines)


def save_causal(folder: Path, found: Causal) -> None:
    """The causal evidence of an arm as JSON."""
    write_json(folder / _CAUSAL, TypeAdapter(Causal).dump_python(found, mode="json"))


def load_causal(folder: Path) -> Causal | None:
    """The causal evidence of an arm; None where there is none.

    Raises:
        UserError: it was written by another version.
    """
    path = folder / _CAUSAL
    if not path.is_file():
        return None
    with naming_damage(path):
        return TypeAdapter(Causal).validate_json(path.read_text(encoding="utf-8"))


def save_findings(path: Path, findings: Iterable[Finding[Any]]) -> None:
    """Write findings, with the result of every null draw and control, as one JSON file."""
    content = {}
    for finding in findings:
        one = TypeAdapter(finding.analysis.gives)
        content[finding.analysis.name] = {
            "arm": finding.arm,
            "symbol": finding.symbol,
            "result": one.dump_python(finding.result, mode="json"),
            "null_results": [one.dump_python(r, mode="json") for r in finding.null_results],
            "controls": {k: one.dump_python(r, mode="json") for k, r in finding.controls.items()},
        }
    write_atomic(path, json.dumps(content, ensure_ascii=False, allow_nan=False))


def load_findings(path: Path, analyses: Sequence[Analysis[Any]]) -> dict[str, Finding[Any]]:
    """Findings by their analysis's name, in the order of `analyses`; absent ones are left out.

    Raises:
        UserError: there is no such file, or it was written by another version.
    """
    if not path.is_file():
        raise UserError(f"{path}: no findings there; run the probe stage first")
    with naming_damage(path):
        content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {a.name: _finding(a, content[a.name]) for a in analyses if a.name in content}


def _finding(analysis: Analysis[Any], raw: Mapping[str, Any]) -> Finding[Any]:
    read = TypeAdapter(analysis.gives).validate_python
    return Finding(
        analysis=analysis,
        arm=raw["arm"],
        symbol=raw["symbol"],
        result=read(raw["result"]),
        null_results=tuple(read(draw) for draw in raw["null_results"]),
        controls={name: read(result) for name, result in raw["controls"].items()},
    )


def _tensor(path: Path, name: str) -> Array:
    with naming_damage(path), safe_open(path, framework="numpy") as tensors:
        found: Array = tensors.get_tensor(name)
        return found
