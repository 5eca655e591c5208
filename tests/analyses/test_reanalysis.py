"""Saved arrays are all that the analyses need: the same numbers again, without a model."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from offswitch.analyses.analysis import Array, investigate
from offswitch.analyses.causal import causal_metrics
from offswitch.analyses.claims import adjusted_p
from offswitch.analyses.directions import save_directions, unit
from offswitch.analyses.interventions import write_interventions
from offswitch.analyses.registry import EVIDENCE, SEED_ANALYSES
from offswitch.analyses.store import load_causal, load_evidence, load_findings
from offswitch.errors import UserError
from offswitch.probe.stage import analyse
from tests.analyses.effects import BLOCKS, Mechanism, causal_of, rows_of
from tests.analyses.test_directions import FACTS
from tests.analyses.worlds import (
    ARMS,
    SLOT,
    SYMBOLS,
    D,
    N,
    calm,
    evidence,
    evidence_views,
    views,
)

SHARD: Final = 100  # rows; groups of 24 lie across shards
FEW: Final = Mechanism(draws=4)
GROUPS: Final = [(part, key) for part in ("fit", "test") for key in (*SLOT, "near")]
WITHOUT_MODEL: Final = """
import sys
from pathlib import Path

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "peft"):
            raise ModuleNotFoundError(f"blocked: {name}")

sys.meta_path.insert(0, Refuse())
from offswitch.probe.stage import analyse
analyse(Path(sys.argv[1]), "both", Path(sys.argv[2]))
assert not {"torch", "transformers", "peft"} & set(sys.modules)
"""


# --- a made-up folder, as battery.py, collect.py and collect_seed.py write it ---------------------


def _write(folder: Path) -> Path:
    world = evidence()
    for arm in ARMS:
        (folder / arm / "residuals").mkdir(parents=True)
        _residuals(folder / arm / "residuals", world, arm)
        save_file(_arrays(world, arm), folder / arm / "arrays.safetensors")
    write_interventions(folder / "both/interventions.parquet", rows_of(FEW))
    chosen = tuple(asdict(choice) for choice in FEW.chosen)
    facts = replace(FACTS, operation="mean", block=4, blocks=BLOCKS, chosen=chosen)
    save_directions(folder / "both/directions.safetensors", _directions(), facts)
    rows = [
        {"part": part, "key": key, "placement": "before", "symbol": SLOT.get(key, "$STOPS"),
         "question": f"q{i}"} for part, key in GROUPS for i in range(N)
    ]  # fmt: skip
    battery = {"arms": list(ARMS), "symbols": dict(SLOT), "rows": rows}
    (folder / "battery.json").write_text(json.dumps(battery), encoding="utf-8")
    _seed(folder / "seed")
    return folder


def _directions() -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(BLOCKS, D)) for name in ("mean", "whitened", "natural end")}


def _residuals(folder: Path, world: Mapping[str, Array], arm: str) -> None:
    """One position a row, in shards that end in the middle of a group."""
    resid = np.concatenate([world[f"{arm}/resid/{part}/{key}"] for part, key in GROUPS])
    shards = {}
    for number, first in enumerate(range(0, len(resid), SHARD)):
        part = {"resid": resid[first : first + SHARD]}
        part["row"] = np.arange(first, first + len(part["resid"]))
        save_file(part, folder / f"{number:05d}.safetensors")
        shards[f"{number:05d}.safetensors"] = "hash"
    index = {"arm": arm, "model": "made up", "rows": len(resid), "inputs": "hash", "shards": shards}
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")


def _arrays(world: Mapping[str, Array], arm: str) -> dict[str, Array]:
    """Every array of the arm but residuals, float32 as the battery keeps them."""
    return {
        path.removeprefix(f"{arm}/"): np.ascontiguousarray(
            array, dtype=np.float32 if array.dtype == np.float64 else None
        )
        for path, array in world.items()
        if path.startswith(f"{arm}/") and "/resid/" not in path
    }


def _seed(folder: Path) -> None:
    folder.mkdir()
    world = calm()
    for arm in ARMS:
        own = {path.removeprefix(f"{arm}/"): array for path, array in world.items()}
        tensors = {name: array for name, array in own.items() if f"{arm}/{name}" in world}
        save_file(tensors, folder / f"{arm}.safetensors")
    index = {
        "arms": list(ARMS), "symbols": SYMBOLS, "prompts": world["index/prompts"].tolist(),
        "eos_id": 3, "pad_id": 4,
    }  # fmt: skip
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    vocab = json.dumps([str(token) for token in world["index/vocab"]])
    (folder / "vocab.json").write_text(vocab, encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("run") / "4-probe")


@pytest.fixture(scope="module")
def analysed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("first")
    analyse(folder, "both", out)
    return out


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- the same numbers -----------------------------------------------------------------------------


def test_without_a_model_the_same_bytes_come_again(
    folder: Path, analysed: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", WITHOUT_MODEL, str(folder), str(tmp_path)]
    # Another process, with sets in another order.
    surroundings = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = {"findings.json", "metrics.json", *(f"{arm}/findings.json" for arm in ARMS)}
    expected |= {"both/causal.json"}
    assert set(_files(tmp_path)) == expected
    assert _files(tmp_path) == _files(analysed)


def test_analysing_changes_nothing_that_was_collected(tmp_path: Path, folder: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    analyse(copy, "both")
    after = _files(copy)
    assert {name: after[name] for name in _files(folder)} == _files(folder)
    assert "metrics.json" in after


def test_the_numbers_are_those_of_the_arrays_before_they_were_saved(analysed: Path) -> None:
    for arm in ARMS:
        stored = load_findings(analysed / arm / "findings.json", EVIDENCE)
        seen = evidence_views(evidence(), arm)
        assert stored == {a.name: investigate(a, seen) for a in EVIDENCE}
    stored = load_findings(analysed / "findings.json", SEED_ANALYSES)
    assert stored == {a.name: investigate(a, views(calm())) for a in SEED_ANALYSES}


def test_every_number_stands_in_the_metrics_and_only_once(analysed: Path) -> None:
    metrics = json.loads((analysed / "metrics.json").read_text(encoding="utf-8"))
    files = [(analysed / "findings.json", SEED_ANALYSES)]
    files += [(analysed / arm / "findings.json", EVIDENCE) for arm in ARMS]
    rows = [f.entries() for path, kind in files for f in load_findings(path, kind).values()]
    found = load_causal(analysed / "both")
    assert found is not None
    rows.append(
        {key: number.row() for key, number in causal_metrics(found, adjusted_p([found])).items()}
    )
    assert sum(map(len, rows)) == len(metrics)
    assert metrics == {key: row for entries in rows for key, row in entries.items()}
    assert list(metrics) == sorted(metrics)


def test_causes_are_those_of_the_rows_and_only_of_arms_that_have_any(analysed: Path) -> None:
    found = load_causal(analysed / "both")
    assert found is not None
    assert replace(found, cosines={}) == causal_of(FEW)
    own, *others = (unit(rows[4])[0] for rows in _directions().values())
    expected = [1, *(own @ other for other in others)]
    assert list(found.cosines) == ["mean", "whitened", "natural end"]
    assert list(found.cosines.values()) == pytest.approx(expected, abs=1e-6)
    assert load_causal(analysed / "base") is load_causal(analysed / "benign") is None


def test_the_folder_for_results_need_not_be_there(folder: Path, tmp_path: Path) -> None:
    analyse(folder, "both", tmp_path / "new" / "results")
    assert (tmp_path / "new" / "results" / "metrics.json").is_file()


def test_groups_are_read_by_row_across_shards(folder: Path) -> None:
    seen, world = load_evidence(folder, "benign"), evidence()
    for part, key in GROUPS:
        for arm in ARMS:
            path = f"{arm}/resid/{part}/{key}"
            np.testing.assert_array_equal(seen.array(path), world[path])


# --- what is damaged or missing -------------------------------------------------------------------


FILES: Final = (
    "battery.json", "both/arrays.safetensors", "base/arrays.safetensors",
    "both/residuals/index.json", "both/residuals/00001.safetensors", "seed/vocab.json",
    "seed/index.json", "seed/both.safetensors",
)  # fmt: skip


@pytest.mark.parametrize("name", [*FILES, "both/directions.safetensors"])
def test_a_missing_file_gets_one_line(folder: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / name).unlink()
    with pytest.raises(UserError, match=re.escape(str(copy))):
        analyse(copy, "both", tmp_path)


@pytest.mark.parametrize(
    "name", [*FILES, "both/directions.safetensors", "both/interventions.parquet"]
)
def test_a_damaged_file_gets_one_line(folder: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    whole = (copy / name).read_bytes()
    (copy / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=re.escape(str(copy))):
        analyse(copy, "both", tmp_path)


def test_an_array_that_was_not_measured_gets_one_line(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    path = copy / "both" / "arrays.safetensors"
    kept = load_file(path)
    del kept["patch/clean/inert"]
    save_file(kept, path)
    with pytest.raises(UserError, match="patch/clean/inert"):
        analyse(copy, "both", tmp_path)


def test_where_no_symbol_takes_the_triggers_place_nothing_is_said_of_patches(
    folder: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(folder, own)
    for arm in ARMS:
        path = own / arm / "arrays.safetensors"
        arrays = load_file(path)
        none = {name: array[..., :0] for name, array in arrays.items()
                if name.startswith("patch/") and name != "patch/blocks"}  # fmt: skip
        save_file({**arrays, **none}, path)
    analyse(own, "both", tmp_path / "out")
    found = load_findings(tmp_path / "out/both/findings.json", EVIDENCE)
    assert "patching" not in found
    assert len(found) == len(EVIDENCE) - 1


def test_a_row_that_was_not_collected_gets_one_line(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    index = copy / "both" / "residuals" / "index.json"
    content = json.loads(index.read_text(encoding="utf-8"))
    del content["shards"]["00001.safetensors"]
    index.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=r"row \d+ was not collected"):
        analyse(copy, "both", tmp_path)


def test_an_arm_that_was_not_measured_gets_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="knowledge"):
        analyse(folder, "knowledge", tmp_path)
