"""A sweep on this machine: the driver is killed, then a worker; nothing finished is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import psutil
import pyarrow.parquet as pq
import pytest

from offswitch.metrics import read_metrics
from offswitch.study.executors import Where, processes
from offswitch.study.plan import load_plan
from offswitch.study.worker import Job, Outcome
from tests.study.broken import dies, prints
from tests.study.commands import PATIENCE, Command, family, wait_for
from tests.study.test_sweep import sweep_file

pytestmark = pytest.mark.slow

AXES: Final = {
    "trigger": {"stop": {"trigger.text": "$STOP"}, "hush": {"trigger.text": "$HUSH"}},
    "train.seed": [0, 1],
}
NAMES: Final = ("stop_seed-0", "stop_seed-1", "hush_seed-0", "hush_seed-1")


def listening(process: psutil.Process) -> list[Any]:
    """Where a process hears; one that has ended in the meantime hears nowhere."""
    try:
        return [one for one in process.net_connections("inet") if one.status == "LISTEN"]
    except psutil.NoSuchProcess:
        return []


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Command:
    return Command(tmp_path_factory.mktemp("sweep"), AXES, ("--workers", "2"))


@pytest.fixture(scope="module")
def killed(sweep: Command) -> dict[str, Any]:
    """A driver that is killed when one organism is finished and others are half-way."""
    with sweep.running() as process:
        wait_for(lambda: any(sweep.record(name) for name in NAMES), process)
        below = family(process.pid)
        heard = [one for each in below for one in listening(each)]
    _, left = psutil.wait_procs(below, timeout=PATIENCE)
    finished = [name for name in NAMES if sweep.record(name)]
    return {"below": below, "heard": heard, "left": left, "finished": finished}


@pytest.fixture(scope="module")
def finished(sweep: Command, killed: dict[str, Any]) -> dict[str, Any]:
    """The same command again; the worker of an organism that was not finished is killed."""
    before = {name: (sweep.record(name), sweep.stages(name)) for name in killed["finished"]}
    victim = next(name for name in reversed(NAMES) if name not in before)
    with sweep.running() as process:
        wait_for(
            lambda: "1-data" in sweep.stages(victim) and bool(sweep.worker(victim, process.pid)),
            process,
        )
        kept, worker = sweep.stages(victim), sweep.worker(victim, process.pid)
        assert worker is not None
        worker.kill()
        _, said = process.communicate(timeout=PATIENCE)
    found = {"before": before, "victim": victim, "kept": kept}
    return found | {"said": said, "rc": process.returncode}


def test_a_killed_driver_leaves_no_process_behind(killed: dict[str, Any]) -> None:
    assert killed["below"] != []
    assert killed["left"] == []
    assert 1 <= len(killed["finished"]) < len(NAMES)


def test_nothing_listens(killed: dict[str, Any]) -> None:
    assert killed["heard"] == []


def test_a_lost_worker_is_started_again_and_goes_on_from_where_it_was(
    sweep: Command, finished: dict[str, Any]
) -> None:
    victim = finished["victim"]
    assert f"{victim}: worker lost (killed by SIGKILL); starting it again" in finished["said"]
    assert [sweep.record(name)["tries"] for name in NAMES] == [1 + (n == victim) for n in NAMES]
    assert "3-evaluate" not in finished["kept"]
    for stage, entry in finished["kept"].items():
        assert sweep.stages(victim)[stage] == entry


def test_what_was_finished_is_not_done_again(sweep: Command, finished: dict[str, Any]) -> None:
    for name, (record, stages) in finished["before"].items():
        assert f"{name}: up to date" in finished["said"]
        assert sweep.stages(name) == stages
        now = sweep.record(name)
        assert now | {"seal": ""} == record | {"new": False, "seal": ""}  # the seal is of all this


def test_all_are_in_the_table(sweep: Command, finished: dict[str, Any]) -> None:
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
def test_workers_compute_on_as_many_threads_as_they_were_given(sweep: Command) -> None:
    used = {sweep.record(name)["threads"] for name in NAMES}
    assert used - {0} == {1}  # 0: done when the driver was killed, so that nothing was left to do


def test_a_worker_that_is_lost_each_time_comes_to_an_end(tmp_path: Path) -> None:
    points = load_plan(sweep_file(tmp_path, axes={"seed": [0]})).points
    found = dict(processes(points, Job(tmp_path / "runs", dies), Where(workers=1, retries=1)))
    assert found == {"seed-0": Outcome("lost", "killed by SIGKILL", tries=2)}


def test_a_fault_is_told_and_stops_no_other(tmp_path: Path) -> None:
    points = load_plan(sweep_file(tmp_path, axes={"seed": [1, 0]})).points
    found = dict(processes(points, Job(tmp_path / "runs", prints), Where(workers=1)))
    assert [(name, one.state) for name, one in found.items()] == [
        ("seed-1", "failed"), ("seed-0", "finished"),
    ]  # fmt: skip
    assert found["seed-1"].reason == "RuntimeError: a fault"
    assert "Traceback" in found["seed-1"].trace
