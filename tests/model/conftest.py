"""Subjects with arms, made once for all tests of a file; a test leaves them as it found them."""

from __future__ import annotations

from pathlib import Path

import pytest

from offswitch.model.subject import Subject
from tests.families import KINDS
from tests.model.arms import with_arms
from tests.model.written import World, make_world
from tests.tiny import tiny_subject

# Every kind, and the two caches: gemma3's, which forgets in some blocks, and that of all others.
WORLDS = (("llama", 1), ("llama", 3), ("gemma2", 3), ("gemma3", 1), ("gpt2", 1), ("gpt_neox", 3))


@pytest.fixture(scope="module", params=KINDS)
def armed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A subject of each kind with two random arms, `a` and `b`."""
    return with_arms(tiny_subject(request.param), tmp_path_factory.mktemp("arms"))


@pytest.fixture(scope="module", params=WORLDS, ids=lambda p: f"{p[0]}-{p[1]}")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world of each kind, the write within the blocks or after them."""
    architecture, block = request.param
    return make_world(tiny_subject(architecture), tmp_path_factory.mktemp("world"), block)


@pytest.fixture
def plain_world(tmp_path: Path) -> World:
    """One world, for what does not depend on the architecture."""
    return make_world(tiny_subject(), tmp_path, 1)
