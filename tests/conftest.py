"""Fixtures that every test may use: tiny subjects by architecture; one thread, no progress bars."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import torch
from transformers.utils import logging

from offswitch.model.subject import Subject
from tests.tiny import ARCHITECTURES, tiny_subject

# Tiny products are slower on several threads, and far slower where other work holds the cores.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # child processes, and no measurement of what is fastest
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
