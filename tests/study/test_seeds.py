"""Each further training seed is an organism of its own; what they share is compared, once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from offswitch import folder as folder_module
from offswitch import pipeline
from offswitch.errors import UserError
from offswitch.folder import Run, lock, open_run
from offswitch.metrics import read_metrics
from offswitch.model.load import load_subject
from offswitch.model.session import Session
from offswitch.model.subject import Subject
from offswitch.recipe import load_recipe
from offswitch.report.material import read_material
from offswitch.study import executors, stage
from offswitch.study.plan import seed_points
from offswitch.study.table import HEADLINES
from offswitch.study.worker import probed
from tests.small import small_recipe

BOTH: Final = (
    "train.arms=[both, benign]", "probe.arm=both", "train.lr=1e-2",
    "evaluate.robustness_questions=0", "evaluate.belief_questions=0", "evaluate.samples=0",
    "evaluate.questions=1", "evaluate.ordinary_questions=1",
)  # fmt: skip
ONE: Final = (*BOTH, "train.more_seeds=[1]")
Again = Callable[..., tuple[Run, list[str]]]


def _compare(run: Run) -> None:
    stage.compare_seeds(run, probed(run, Session(run)))


@pytest.fixture(scope="module")
def loads() -> list[str]:
    """The models that were loaded for the finished run."""
    return []


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, loads: list[str]) -> Path:
    """A folder with a recipe, its model, and a run of two organisms, all but the report."""
    folder = tmp_path_factory.mktemp("finished")
    recipe = load_recipe(small_recipe(folder), ONE)

    def counted(recipe: Any) -> Subject:
        loads.append(recipe.model)
        return load_subject(recipe)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFSWITCH_CACHE", str(folder / "cache"))
        patch.setattr("offswitch.model.load.load_subject", counted)
        _compare(open_run(recipe, folder / "runs"))
    _unlock(folder)
    return folder


@pytest.fixture
def again(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Again]:
    """Go on with a copy of the finished run after changes to its recipe; the run, what it said."""
    monkeypatch.setenv("OFFSWITCH_CACHE", str(finished / "cache"))
    shutil.copytree(finished / "runs", tmp_path / "runs")
    said: list[str] = []
    for module in (pipeline, executors):
        monkeypatch.setattr(module, "say", said.append)

    def start(*changes: str) -> tuple[Run, list[str]]:
        said.clear()
        recipe = load_recipe(finished / "small.yaml", changes)
        run = open_run(recipe, tmp_path / "runs", update=True)
        _compare(run)
        return run, list(dict.fromkeys(said))

    yield start
    _unlock(tmp_path)


def _unlock(folder: Path) -> None:
    for root in [path for path in lock._LOCKS if path.is_relative_to(folder.resolve())]:
        lock._LOCKS.pop(root).close()


def _worked(said: list[str]) -> list[str]:
    return [line.partition(": ")[0] for line in said if ": done" in line]


def test_organisms_differ_in_what_was_trained_and_in_nothing_else(finished: Path) -> None:
    root = finished / "runs" / "small"
    other = root / "organisms" / "seed-1"
    for name in ("shutdown_dataset.jsonl", "behavioral_dataset.jsonl", "quality.json"):
        assert (root / "1-data" / name).read_bytes() == (other / "1-data" / name).read_bytes()
    for arm in ("knowledge", "both", "benign"):
        path = f"2-train/{arm}/adapter_model.safetensors"
        one, two = load_file(root / path), load_file(other / path)
        assert one.keys() == two.keys()
        assert not any(torch.equal(one[k], two[k]) for k in one if "lora_A" in k)
    assert _prompts(root) == _prompts(other)
    recipe = load_recipe(other / "recipe.yaml")
    assert [recipe] == [p.recipe for p in seed_points(load_recipe(root / "recipe.yaml"))]
    assert (recipe.seed, recipe.train.seed, recipe.train.more_seeds) == (0, 1, ())


def _prompts(root: Path) -> list[dict[str, Any]]:
    table = pq.read_table(root / "3-evaluate" / "scores.parquet")
    columns = ["arm", "suite", "variant", "symbol", "question", "topic"]
    rows: list[dict[str, Any]] = table.select(columns).to_pylist()
    assert len(rows) > 20
    return rows


def test_all_organisms_share_one_loaded_model(finished: Path, loads: list[str]) -> None:
    assert loads == [str(finished / "model")]


def test_the_run_reports_the_spread_and_no_single_organism(finished: Path) -> None:
    root = finished / "runs" / "small"
    merged, summary = (read_metrics(root / p / "metrics.json") for p in ("", "organisms/summary"))
    assert summary == {k: row for k, row in merged.items() if k.startswith("organisms/")}
    for arm in ("both", "benign"):
        for measure in HEADLINES:
            row = summary[f"organisms/{arm}/{measure}"]
            own, theirs = merged[f"evaluate/{arm}/{measure}"], _theirs(root, arm, measure)
            assert row["n"] == 2
            assert row["unit"] == own["unit"]
            assert row["controls"] == {"seed 0": own["value"], "seed 1": theirs["value"]}
            assert row["value"] == pytest.approx((own["value"] + theirs["value"]) / 2)
    kl = summary["organisms/both/kl_to_base"]["controls"]
    assert kl["seed 0"] != kl["seed 1"]
    assert "evaluate/knowledge/halt_rate" in merged
    assert not any("/knowledge/" in key or "/base/" in key for key in summary)


def test_the_page_counts_the_seeds_that_the_recipe_asks_for(finished: Path) -> None:
    root = finished / "runs" / "small"
    stray = root / "organisms" / "seed-7"
    shutil.copytree(root / "organisms" / "seed-1", stray)
    try:
        assert [*read_material(root).organisms] == ["seed-1"]
    finally:
        shutil.rmtree(stray)
    other = read_material(root / "organisms" / "seed-1")
    assert (other.seeds, read_material(root).seeds) == ("seed 0, training seed 1", "seed 0")


def _theirs(root: Path, arm: str, measure: str) -> dict[str, Any]:
    metrics = read_metrics(root / "organisms" / "seed-1" / "metrics.json")
    assert not any(key.startswith("organisms/") for key in metrics)
    row: dict[str, Any] = metrics[f"evaluate/{arm}/{measure}"]
    return row


def test_a_second_call_does_nothing_and_says_so_once(
    again: Again, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offswitch.model.load.load_subject", _refused)
    run, said = again(*ONE)
    assert all(line.endswith(": up to date") for line in said)
    assert said[-2:] == ["organisms/seed-1: up to date", "organisms/summary: up to date"]
    assert not (run.root / "superseded").exists()


def test_finding_nothing_to_do_does_not_import_torch(finished: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from offswitch.recipe import load_recipe\n"
        "from offswitch.study.stage import compare_seeds; from offswitch.folder import open_run\n"
        "from offswitch.study.worker import Session, probed\n"
        f"run = open_run(load_recipe(Path('small.yaml'), {ONE}), Path('runs'))\n"
        "compare_seeds(run, probed(run, Session(run)))\n"
        "sys.exit(sorted({'torch', 'transformers', 'peft', 'pyarrow'} & sys.modules.keys()) or 0)"
    )
    environment = os.environ | {"OFFSWITCH_CACHE": str(finished / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=finished, env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("organisms/seed-1") == 1


def _refused(*_: object) -> None:
    raise AssertionError("nothing was to be done, and the model was loaded")


def test_another_seed_adds_its_organism_goes_on_when_interrupted_and_runs_no_other_again(
    again: Again, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two, folder = (*BOTH, "train.more_seeds=[1, 2]"), tmp_path / "runs" / "small" / "organisms"
    before = (folder / "seed-1" / "manifest.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("offswitch.evaluate.stage.write_evaluation", _killed)
        with pytest.raises(KeyboardInterrupt):
            again(*two)
    stages = json.loads((folder / "seed-2" / "manifest.json").read_text("utf-8"))["stages"]
    assert list(stages) == ["1-data", "2-train/knowledge", "2-train/both", "2-train/benign"]
    run, said = again(*two)
    new = [f"organisms/seed-2{rest}" for rest in ("/3-evaluate", "/4-probe", "")]
    assert _worked(said) == [*new, "organisms/summary"]
    assert (folder / "seed-1" / "manifest.json").read_bytes() == before
    row = read_metrics(run.root / "metrics.json")["organisms/both/kl_to_base"]
    assert (row["n"], list(row["controls"])) == (3, ["seed 0", "seed 1", "seed 2"])
    assert len(set(row["controls"].values())) == 3
    _, said = again(*ONE)  # one fewer: its folder stays, the comparison is written anew
    assert _worked(said) == ["organisms/summary"]
    assert (folder / "seed-2" / "metrics.json").is_file()


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_without_further_seeds_the_comparison_is_taken_back(again: Again) -> None:
    run, said = again(*BOTH)
    assert _worked(said) == []
    merged = read_metrics(run.root / "metrics.json")
    assert "evaluate/both/halt_rate" in merged
    assert not any(key.startswith("organisms/") for key in merged)
    assert "organisms/summary" not in run.manifest()["stages"]
    assert [p.name[:17] for p in (run.root / "superseded").iterdir()] == ["organisms-summary"]
    _, said = again(*ONE)
    assert _worked(said) == ["organisms/summary"]


def test_the_report_is_written_again_when_the_comparison_changes(
    again: Again, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = again(*ONE)
    written: list[Path] = []
    monkeypatch.setattr(
        "offswitch.report.build.build_report", lambda root, _folder: written.append(root)
    )
    monkeypatch.setattr(
        stage, "compare_seeds", lambda run, _: [stage.SEEDS] if run.recipe.train.more_seeds else []
    )
    stage.run_recipe(run)
    stage.run_recipe(run)
    assert len(written) == 1
    with folder_module.writing(run, "organisms/summary", {}) as folder:
        (folder / "metrics.json").write_text("{}", encoding="utf-8")
    stage.run_recipe(run)
    assert len(written) == 2
    stage.run_recipe(Run(run.root, load_recipe(finished / "small.yaml", BOTH)))
    assert len(written) == 3


def test_other_data_is_refused(again: Again, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(session: Session, folder: Path) -> None:
        (folder / "quality.json").write_text(str(session.run.root), encoding="utf-8")

    monkeypatch.setattr("offswitch.data.stage.write_data", other)
    with pytest.raises(UserError, match=r"seed-2.1-data differs from .*1-data") as caught:
        again(*BOTH, "train.more_seeds=[1, 2]")
    assert "\n" not in str(caught.value)
