"""Fixtures of arms with a write."""

from __future__ import annotations

from pathlib import Path

import pytest

from offswitch.model.subject import Subject
from tests.model.written import BLOCKS, World, make_world
from tests.tiny import tiny_subject


@pytest.fixture(params=BLOCKS)
def world(subject: Subject, tmp_path: Path, request: pytest.FixtureRequest) -> World:
    """A world of each architecture, the write within the blocks or after them."""
    return make_world(subject, tmp_path, request.param)


@pytest.fixture
def plain_world(tmp_path: Path) -> World:
    """One world, for what does not depend on the architecture."""
    return make_world(tiny_subject(), tmp_path, 1)
