"""Fixtures that every test may use: tiny subjects by architecture; one thread, no progress bars."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING

# Tiny products are slower on several threads, and far slower where other work holds the cores;
# and where threads are given, nothing is measured to choose them.
os.environ["OMP_NUM_THREADS"] = "1"  # before anything that reads it; commands started inherit it

import pytest
from filelock import FileLock

from tests.families import FAMILIES

# Files of twenty seconds and more; then come those with a slow test, then all others.
LONGEST = (
    "test_end_to_end", "test_reliability", "test_beside", "test_seeds", "test_distributed",
    "test_processes", "test_cluster", "test_notebooks", "test_tutorial", "test_calibrate",
    "test_inputs", "test_task", "test_battery", "test_report", "test_stage", "test_seed_scripts",
    "test_recipes", "test_examine", "test_plots",
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from offswitch.model.subject import Subject


@pytest.fixture(scope="session", autouse=True)
def _quiet() -> None:
    """Import torch and transformers here: the process that hands out the tests needs neither.

    What all test files have imported is here to stay: every training looks through it for garbage.
    """
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    disable_progress_bar: Callable[[], None] = logging.disable_progress_bar
    disable_progress_bar()
    gc.freeze()


@pytest.fixture(params=tuple(FAMILIES))
def subject(request: pytest.FixtureRequest) -> Subject:
    """A fresh tiny subject of each architecture in turn."""
    from tests.tiny import tiny_subject

    return tiny_subject(request.param)


@pytest.fixture
def llama() -> Subject:
    """A fresh tiny Llama with tied ends."""
    from tests.tiny import tiny_subject

    return tiny_subject("llama")


@pytest.fixture(scope="session")
def small_home(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder with small.yaml, its model, cache/, and runs/small up to the probes; not to change.

    A test that goes on with the run copies runs/. Of several processes that hand out the tests
    between them, the first that needs it makes it for all.
    """
    from tests.small import probed

    own = tmp_path_factory.getbasetemp()
    folder = (own if worker_id == "master" else own.parent) / "small-home"
    with FileLock(folder.with_name("small-home.lock")):
        if not (folder / "done").is_file():
            folder.mkdir(exist_ok=True)
            (probed(folder) / "done").touch()
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made, but not drawn."""
    from tests.small import undraw

    undraw(monkeypatch)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported is no garbage: looking for some is a quarter of the time of importing."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest goes first, so that no worker is left alone with it at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path.stem not in LONGEST, item.path not in slow))
