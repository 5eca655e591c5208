"""Arms side by side give the numbers that they give one after another, and lose nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psutil
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from offswitch.errors import UserError
from offswitch.folder import Run, open_run
from offswitch.metrics import read_metrics
from offswitch.pipeline import evaluate, probe, train
from offswitch.progress import Bar, watchers
from offswitch.recipe import load_recipe
from tests.small import small_recipe
from tests.train.stages import same_bits

pytestmark = pytest.mark.slow

ARMS: Final = ("knowledge", "both", "benign")
CHANGES: Final = (
    "train.arms=[both, benign]", "probe.arm=both", "train.behavior.max_steps=4", "train.lr=1e-2",
    "evaluate.questions=1", "evaluate.ordinary_questions=1",
)  # fmt: skip
BESIDE: Final = ("processes=2", "threads=1")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a small recipe, its model, and a cache."""
    folder = tmp_path_factory.mktemp("beside")
    small_recipe(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFSWITCH_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="module")
def alone(home: Path) -> Run:
    """One arm after another, in this process, which has one thread."""
    return _probed(home, "name=alone", "processes=1")


@pytest.fixture(scope="module")
def beside(home: Path, alone: Run) -> Run:
    """Two arms at a time; the untouched model's replies are in the cache of the run before."""
    assert alone.manifest()["stages"]
    return _probed(home, "name=beside", *BESIDE)


def _opened(home: Path, *changes: str) -> Run:
    return open_run(load_recipe(home / "small.yaml", [*CHANGES, *changes]), home / "runs")


def _probed(home: Path, *changes: str) -> Run:
    run = _opened(home, *changes)
    probe(run, evaluate(run))
    return run


def _numbers(run: Run) -> dict[str, Any]:
    metrics = read_metrics(run.root / "metrics.json")
    return {key: row for key, row in metrics.items() if not key.endswith("tokens_per_second")}


def test_every_number_is_the_same_to_the_digit(alone: Run, beside: Run) -> None:
    assert len(_numbers(alone)) > 100
    assert _numbers(beside) == _numbers(alone)
    for name in ("scores.parquet", "belief.parquet", "robustness.parquet"):
        one, two = (pq.read_table(run.folder("3-evaluate") / name) for run in (alone, beside))
        assert one.equals(two), name
    one, two = (
        pq.read_table(run.folder("4-probe") / "both/interventions.parquet")
        for run in (alone, beside)
    )
    assert one.equals(two)
    assert len(one) > 100
    samples = [(run.folder("3-evaluate") / "samples.jsonl").read_bytes() for run in (alone, beside)]
    assert samples[0] == samples[1]


def test_every_weight_and_array_is_the_same_to_the_bit(alone: Run, beside: Run) -> None:
    for stage in ("2-train", "4-probe"):
        files = sorted(alone.folder(stage).rglob("*.safetensors"))
        assert len(files) > 2
        for path in files:
            twin = beside.root / path.relative_to(alone.root)
            assert same_bits(load_file(path), load_file(twin)), path


def test_the_books_say_who_did_it(beside: Run) -> None:
    stages = beside.manifest()["stages"]
    assert {*stages} == {"1-data", *(f"2-train/{arm}" for arm in ARMS), "3-evaluate", "4-probe"}
    for arm in ARMS:
        told = json.loads((beside.folder(f"2-train/{arm}") / "training.json").read_text("utf-8"))
        assert (told["threads"], told["processes"]) == (1, 1)
        entry = stages[f"2-train/{arm}"]
        assert 0 < entry["seconds"] < 600
        assert entry["peak_memory_mb"] > 100
    assert stages["2-train/both"]["started"] >= stages["2-train/knowledge"]["started"]
    assert not list((beside.root / ".partial").iterdir())


def test_an_arm_that_is_refused_loses_no_finished_one(home: Path) -> None:
    """`both` cannot be trained on rows so short; what it goes on from stands."""
    few = ("train.max_length=24", "train.arms=[both]")
    run = _opened(home, "name=refused", *BESIDE, *few)
    with pytest.raises(UserError, match=r"^no row with the trigger fits into train.max_length=24$"):
        train(run)
    assert [*run.manifest()["stages"]] == ["1-data", "2-train/knowledge"]


def test_a_lost_child_is_told_and_the_same_command_goes_on(home: Path, alone: Run) -> None:
    run = _opened(home, "name=killed", *BESIDE)
    bars: list[Bar] = []
    others = psutil.Process().children()  # such as the fork server of tests before

    def started() -> list[psutil.Process]:
        return [child for child in psutil.Process().children() if child not in others]

    def kill(bar: Bar) -> None:
        bars.append(bar)
        if bar.label == "training benign" and bar.done == 2:
            for child in started():
                child.kill()

    watchers.append(kill)
    try:
        with pytest.raises(UserError, match=r"^2-train/\w+: its process was lost \(killed by SIGK"):
            train(run)
    finally:
        watchers.remove(kill)
    assert started() == []
    assert Bar("training benign", 0, 4, stage="2-train/benign") in bars
    # What a child left, any process ends; another start would import torch in two more.
    recipe = load_recipe(home / "small.yaml", [*CHANGES, "name=killed", "processes=1"])
    train(open_run(recipe, home / "runs", update=True))
    benign = json.loads((run.folder("2-train/benign") / "training.json").read_text("utf-8"))
    assert benign["first_step"] >= 1
    for arm in ARMS:
        name = f"2-train/{arm}/adapter_model.safetensors"
        assert same_bits(load_file(run.root / name), load_file(alone.root / name))
