"""A sweep on a Ray cluster that is there already: a lost worker, its threads, and the table."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psutil
import pyarrow.parquet as pq
import pytest

from offswitch.errors import UserError
from offswitch.pipeline import evaluate
from offswitch.study.executors import Where, cluster
from offswitch.study.worker import Job
from tests.outside import ROOT
from tests.study.commands import PATIENCE, Command, family, wait_for

pytestmark = pytest.mark.slow

NAMES: Final = ("seed-0", "seed-1")
ALONE: Final = {
    "PYTHONPATH": str(ROOT),
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # no others join: loopback only
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # else Ray's workers give way to whatever else runs here
}


@pytest.fixture(scope="module")
def head() -> Iterator[tuple[int, str]]:
    """A cluster of one machine with one CPU: its process, and the address at which it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    program = "from ray.scripts.scripts import main; main()"
    options = ["--head", "--block", "--num-cpus=1", "--include-dashboard=false"]
    options += ["--node-ip-address=127.0.0.1", f"--port={address.partition(':')[2]}"]
    process = subprocess.Popen(
        [sys.executable, "-c", program, "start", *options, "--object-store-memory=100000000"],
        env=os.environ | ALONE, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process.pid, address
    finally:
        processes = [*family(process.pid), psutil.Process(process.pid)]
        for one in processes:
            one.kill()
        process.wait(PATIENCE)
        psutil.wait_procs(processes, timeout=PATIENCE)


@pytest.fixture(scope="module")
def sweep(head: tuple[int, str], tmp_path_factory: pytest.TempPathFactory) -> Command:
    home, (pid, address) = tmp_path_factory.mktemp("cluster"), head
    deadline = time.monotonic() + PATIENCE
    while not any("raylet" in p.name() for p in family(pid)):
        assert time.monotonic() < deadline, "the cluster did not start"
        time.sleep(0.1)
    return Command(home, {"train.seed": [0, 1]}, ("--address", address), **ALONE)


@pytest.fixture(scope="module")
def said(sweep: Command, head: tuple[int, str]) -> dict[str, Any]:
    """What the command said; the first organism's worker was killed on the way."""
    with sweep.running() as process:
        wait_for(
            lambda: "1-data" in sweep.stages("seed-0") and bool(sweep.worker("seed-0", head[0])),
            process,
        )
        worker = sweep.worker("seed-0", head[0])
        assert worker is not None
        worker.kill()
        _, said = process.communicate(timeout=PATIENCE)
    return {"said": said, "rc": process.returncode}


def test_a_lost_worker_is_started_again(sweep: Command, said: dict[str, Any]) -> None:
    assert "seed-0: worker lost" in said["said"]
    assert [sweep.record(name)["tries"] for name in NAMES] == [2, 1]


def test_all_are_in_the_table(sweep: Command, said: dict[str, Any]) -> None:
    assert said["rc"] == 0, said["said"]
    rows = pq.read_table(sweep.root / "organisms.parquet").to_pylist()
    assert [(row["organism"], row["state"]) for row in rows] == [(n, "finished") for n in NAMES]
    assert all(row["halt_rate/n"] >= 1 for row in rows)


@pytest.mark.usefixtures("said")
def test_workers_compute_on_as_many_threads_as_they_were_given(sweep: Command) -> None:
    assert {sweep.record(name)["threads"] for name in NAMES} == {1}


def test_no_cluster_is_the_users_mistake(tmp_path: Path) -> None:
    job = Job(tmp_path, evaluate)
    with pytest.raises(UserError, match="no Ray cluster answers at nowhere: ") as caught:
        list(cluster([], job, Where(address="nowhere")))
    assert "\n" not in str(caught.value)
