"""Arms side by side give the numbers that they give one after another, and lose nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psutil
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from offswitch.metrics import read_metrics
from offswitch.pipeline import evaluate, probe
from offswitch.recipe import load_recipe
from offswitch.run import Run, open_run
from tests.outside import ROOT
from tests.small import small_recipe
from tests.train.stages import same_bits

pytestmark = pytest.mark.slow

PATIENCE: Final = 240
ARMS: Final = ("knowledge", "behavior", "both", "benign")
CHANGES: Final = (
    "train.arms=[behavior, both, benign]", "train.behavior.max_steps=4", "train.lr=1e-2",
)  # fmt: skip
BESIDE: Final = ("processes=2", "threads=1")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small recipe and its model."""
    folder = tmp_path_factory.mktemp("beside")
    small_recipe(folder)
    return folder


@pytest.fixture(scope="module")
def alone(home: Path) -> Run:
    """One arm after another, in this process, which has one thread."""
    return _probed(home, "name=alone", "processes=1")


@pytest.fixture(scope="module")
def beside(home: Path, alone: Run) -> Run:
    """Two arms at a time; the untouched model's replies are in the cache of the run before."""
    assert alone.manifest()["stages"]
    return _probed(home, "name=beside", *BESIDE)


def _probed(home: Path, *changes: str) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFSWITCH_CACHE", str(home / "cache"))
        run = open_run(load_recipe(home / "small.yaml", [*CHANGES, *changes]), home / "runs")
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
    samples = [(run.folder("3-evaluate") / "samples.jsonl").read_bytes() for run in (alone, beside)]
    assert samples[0] == samples[1]


def test_every_weight_and_array_is_the_same_to_the_bit(alone: Run, beside: Run) -> None:
    for stage in ("2-train", "4-probe"):
        files = sorted(alone.folder(stage).rglob("*.safetensors"))
        assert len(files) > 3
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
        assert 0 < entry["seconds"] < PATIENCE
        assert entry["peak_memory_mb"] > 100
    assert stages["2-train/both"]["started"] >= stages["2-train/knowledge"]["started"]
    assert not list((beside.root / ".partial").iterdir())


def test_an_arm_that_is_refused_loses_no_finished_one(home: Path) -> None:
    """`both` cannot be trained on rows so short; what it goes on from stands."""
    few = ("train.max_length=24", "train.arms=[both]", "probe.arm=both")
    command = _Command(home, "refused", *few)
    code, said = command.finish()
    assert code == 2
    assert said[-1] == "offswitch: no row with the trigger fits into train.max_length=24"
    assert [*command.stages()] == ["1-data", "2-train/knowledge"]
    code, said = command.finish()
    assert "2-train/knowledge: up to date" in said
    assert code == 2


def test_what_is_killed_goes_on(home: Path) -> None:
    """First a child is killed, then the command; the end is what it would have been."""
    command = _Command(home, "killed", "train.behavior.max_steps=40")
    with command.start() as process:
        working = command.wait_for_checkpoint("behavior", 2, process)
        working.kill()
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    last = said.strip().splitlines()[-1]
    assert last.startswith("offswitch: 2-train/behavior: its process was lost (killed by SIGKILL)")
    with command.start() as process:
        working = command.wait_for_checkpoint("behavior", 6, process)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
    assert working in children
    assert psutil.wait_procs(children, timeout=PATIENCE)[1] == []
    assert command.finish()[0] == 0
    path = command.run.folder("2-train/behavior") / "training.json"
    assert json.loads(path.read_text("utf-8"))["first_step"] >= 5
    straight = _Command(home, "straight", "train.behavior.max_steps=40")
    assert straight.finish()[0] == 0
    for arm in ("behavior", "both"):
        name = f"2-train/{arm}/adapter_model.safetensors"
        assert same_bits(load_file(command.run.root / name), load_file(straight.run.root / name))


class _Command:
    """`offswitch train` on a run folder of the small recipe."""

    def __init__(self, home: Path, name: str, *changes: str) -> None:
        self.home, self.changes = home, (*CHANGES, f"name={name}", *BESIDE, *changes)
        self.run = Run(home / "runs" / name, load_recipe(home / "small.yaml", self.changes))

    def start(self) -> subprocess.Popen[str]:
        """The command, begun."""
        options = [part for change in self.changes for part in ("--set", change)]
        code = "from offswitch.cli import app; app()"
        return subprocess.Popen(
            [sys.executable, "-c", code, "train", "small.yaml", *options], cwd=self.home, text=True,
            env=os.environ | {
                "OFFSWITCH_CACHE": str(self.home / "cache"), "OMP_NUM_THREADS": "1",
                "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            },
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def finish(self) -> tuple[int, list[str]]:
        """Its exit code and what it said, once it has ended."""
        with self.start() as process:
            _, said = process.communicate(timeout=PATIENCE)
        return process.returncode, said.strip().splitlines()

    def stages(self) -> dict[str, Any]:
        """The stages that are entered."""
        return dict(self.run.manifest().get("stages", {}))

    def wait_for_checkpoint(
        self, arm: str, step: int, process: subprocess.Popen[str]
    ) -> psutil.Process:
        """The child that trains an arm, once it has taken so many steps."""
        scratch = self.run.scratch(f"2-train/{arm}")
        self._wait(lambda: any(
            int(path.name.rpartition("-")[2]) >= step for path in scratch.glob("checkpoint-*")
        ), process)  # fmt: skip
        log = str(scratch / "tensorboard")
        for child in psutil.Process(process.pid).children(recursive=True):
            if any(file.path.startswith(log) for file in child.open_files()):
                return child
        raise AssertionError(f"nobody trains {arm}")

    def _wait(self, what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not what():
            assert time.monotonic() < deadline, "waited too long"
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.02)
