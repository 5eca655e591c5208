"""Subjects with arms, made once for all tests of a file; a test leaves them as it found them."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from offswitch.model.subject import Subject
from tests.model.arms import with_arms
from tests.model.written import BLOCKS, World, make_world
from tests.tiny import ARCHITECTURES, tiny_subject


@pytest.fixture(scope="module", params=ARCHITECTURES)
def armed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A subject of each architecture with two random arms, `a` and `b`."""
    return with_arms(tiny_subject(request.param), tmp_path_factory.mktemp("arms"))


@pytest.fixture(
    scope="module", params=product(ARCHITECTURES, BLOCKS), ids=lambda p: f"{p[0]}-{p[1]}"
)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world of each architecture, the write within the blocks or after them."""
    architecture, block = request.param
    return make_world(tiny_subject(architecture), tmp_path_factory.mktemp("world"), block)


@pytest.fixture
def plain_world(tmp_path: Path) -> World:
    """One world, for what does not depend on the architecture."""
    return make_world(tiny_subject(), tmp_path, 1)
