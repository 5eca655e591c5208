"""`offswitch sweep` started as a person starts it, watched and killed from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from offswitch.metrics import read_metrics
from tests.outside import ROOT
from tests.small import small_recipe
from tests.study.test_sweep import sweep_file

PATIENCE: Final = 240


class Command:
    """A sweep folder, and the command that works in it."""

    def __init__(
        self, home: Path, axes: Mapping[str, Any], options: tuple[str, ...], **environment: str
    ) -> None:
        small_recipe(home)
        self.home, self.root = home, home / "runs" / "grid"
        self.file = sweep_file(home, axes=axes, stage="evaluate")
        self.options = ("--runs", str(home / "runs"), *options)
        self.environment = os.environ | {
            "OFFSWITCH_CACHE": str(home / "cache"),
            "OMP_NUM_THREADS": "7",  # what workers get must not come from here
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            **environment,
        }

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        """The command, begun; whatever happens, it does not outlive the block."""
        program = "from offswitch.cli import app; app()"
        process = subprocess.Popen(
            [sys.executable, "-c", program, "sweep", str(self.file), *self.options],
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

    def worker(self, name: str, below: int) -> psutil.Process | None:
        """Which of a process's descendants works on this organism: the one that has its lock."""
        lock = str(self.root / "organisms" / name / ".lock")
        for process in family(below):
            try:
                if lock in [file.path for file in process.open_files()]:
                    return process
            except psutil.Error:  # it ended just now
                continue
        return None


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait while the command runs."""
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, "waited too long"
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.02)


def family(pid: int) -> list[psutil.Process]:
    """The processes below one."""
    found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    return found
