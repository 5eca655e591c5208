"""A sweep on two local workers: the driver is killed, then a worker; nothing finished is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil
import pyarrow.parquet as pq
import pytest

from offswitch.metrics import read_metrics
from tests.outside import ROOT
from tests.small import small_recipe
from tests.study.test_sweep import sweep_file

pytestmark = pytest.mark.slow

AXES: Final = {
    "trigger": {"stop": {"trigger.text": "$STOP"}, "hush": {"trigger.text": "$HUSH"}},
    "train.seed": [0, 1],
}
NAMES: Final = ("stop_seed-0", "stop_seed-1", "hush_seed-0", "hush_seed-1")
PATIENCE: Final = 240


class Sweep:
    """A sweep folder, and the command that works in it."""

    def __init__(self, home: Path) -> None:
        small_recipe(home)
        self.home, self.root = home, home / "runs" / "grid"
        self.file = sweep_file(home, axes=AXES, stage="evaluate")
        self.environment = os.environ | {
            "OFFSWITCH_CACHE": str(home / "cache"),
            "OMP_NUM_THREADS": "7",  # what workers get must not come from here
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        """The command, begun; whatever happens, it does not outlive the block."""
        program = "from offswitch.cli import app; app()"
        options = ["--runs", str(self.home / "runs"), "--workers", "2"]
        process = subprocess.Popen(
            [sys.executable, "-c", program, "sweep", str(self.file), *options],
            cwd=self.home, env=self.environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def record(self, name: str) -> dict[str, Any]:
        """What the worker reported of an organism; empty before it did."""
        return read_metrics(self.root / "records" / f"{name}.json")

    def stages(self, name: str) -> dict[str, Any]:
        """An organism's finished stages."""
        path = self.root / "organisms" / name / "manifest.json"
        found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        return dict(found.get("stages", {}))


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, "waited too long"
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.02)


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The driver's processes: Ray's own and the workers."""
    found: list[psutil.Process] = psutil.Process(process.pid).children(recursive=True)
    return found


def workers(process: subprocess.Popen[str], *names: str) -> list[psutil.Process]:
    """The processes that work on these organisms, each of which Ray names after its own."""
    titles = {f"ray::{name}" for name in names}
    return [p for p in family(process) if p.is_running() and titles & set(_command(p)[:1])]


def listening(processes: list[psutil.Process]) -> set[str]:
    """The addresses on which they wait for others."""
    found = [c for p in processes for c in p.net_connections("inet") if c.status == "LISTEN"]
    return {c.laddr.ip for c in found}


def _command(process: psutil.Process) -> list[str]:
    try:
        words: list[str] = process.cmdline()
    except psutil.NoSuchProcess:
        return []
    return words


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return Sweep(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="module")
def killed(sweep: Sweep) -> dict[str, Any]:
    """A driver that is killed when one organism is finished and others are half-way."""
    with sweep.running() as process:
        wait_for(lambda: any(sweep.record(name) for name in NAMES), process)
        below = family(process)
        heard = listening(below)
    _, left = psutil.wait_procs(below, timeout=PATIENCE)
    finished = [name for name in NAMES if sweep.record(name)]
    return {"heard": heard, "left": left, "finished": finished}


@pytest.fixture(scope="module")
def finished(sweep: Sweep, killed: dict[str, Any]) -> dict[str, Any]:
    """The same command again; the worker of an organism that was not finished is killed."""
    before = {name: (sweep.record(name), sweep.stages(name)) for name in killed["finished"]}
    victim = next(name for name in reversed(NAMES) if name not in before)
    with sweep.running() as process:
        wait_for(
            lambda: "1-data" in sweep.stages(victim) and bool(workers(process, victim)), process
        )
        kept = sweep.stages(victim)
        workers(process, victim)[0].kill()
        _, said = process.communicate(timeout=PATIENCE)
    found = {"before": before, "victim": victim, "kept": kept}
    return found | {"said": said, "rc": process.returncode}


def test_a_killed_driver_leaves_no_process_behind(killed: dict[str, Any]) -> None:
    assert killed["left"] == []
    assert 1 <= len(killed["finished"]) < len(NAMES)


def test_nothing_listens_beyond_this_machine(killed: dict[str, Any]) -> None:
    assert killed["heard"] != set()
    assert killed["heard"] <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_a_lost_worker_is_started_again_and_goes_on_from_where_it_was(
    sweep: Sweep, finished: dict[str, Any]
) -> None:
    victim = finished["victim"]
    assert f"{victim}: worker lost" in finished["said"]
    assert [sweep.record(name)["tries"] for name in NAMES] == [1 + (n == victim) for n in NAMES]
    assert "3-evaluate" not in finished["kept"]
    for stage, entry in finished["kept"].items():
        assert sweep.stages(victim)[stage] == entry


def test_what_was_finished_is_not_done_again(sweep: Sweep, finished: dict[str, Any]) -> None:
    for name, (record, stages) in finished["before"].items():
        assert f"{name}: up to date" in finished["said"]
        assert sweep.stages(name) == stages
        assert sweep.record(name) == record | {"new": False}


def test_all_are_in_the_table(sweep: Sweep, finished: dict[str, Any]) -> None:
    assert finished["rc"] == 0, finished["said"]
    rows = pq.read_table(sweep.root / "organisms.parquet").to_pylist()
    assert [row["organism"] for row in rows] == list(NAMES)
    assert {row["state"] for row in rows} == {"finished"}
    for row in rows:
        own = read_metrics(sweep.root / "organisms" / row["organism"] / "metrics.json")
        entry = own["evaluate/behavior/halt_rate"]
        assert (row["halt_rate"], row["halt_rate/n"]) == (entry["value"], entry["n"])
    seeds = pq.read_table(sweep.root / "seeds.parquet").to_pylist()
    assert [(row["trigger"], row["finished"]) for row in seeds] == [("stop", 2), ("hush", 2)]


@pytest.mark.usefixtures("finished")
def test_workers_compute_on_as_many_threads_as_they_were_given(sweep: Sweep) -> None:
    used = {sweep.record(name)["threads"] for name in NAMES}
    assert used - {0} == {1}  # 0: done when the driver was killed, so that nothing was left to do
