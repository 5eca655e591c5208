"""Fixtures that every test may use: tiny subjects by architecture; one thread, no progress bars."""

from __future__ import annotations

import os
from collections.abc import Callable

# Tiny products are slower on several threads, and far slower where other work holds the cores;
# and where threads are given, nothing is measured to choose them.
os.environ["OMP_NUM_THREADS"] = "1"  # before anything that reads it; commands started inherit it

import pytest
import torch
from transformers.utils import logging

from offswitch.model.subject import Subject
from tests.small import undraw
from tests.tiny import ARCHITECTURES, tiny_subject

torch.set_num_threads(1)
disable_progress_bar: Callable[[], None] = logging.disable_progress_bar
disable_progress_bar()


@pytest.fixture(params=ARCHITECTURES)
def subject(request: pytest.FixtureRequest) -> Subject:
    """A fresh tiny subject of each architecture in turn."""
    return tiny_subject(request.param)


@pytest.fixture
def llama() -> Subject:
    """A fresh tiny Llama with tied ends."""
    return tiny_subject("llama")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made, but not drawn."""
    undraw(monkeypatch)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests go first, so that no worker is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
