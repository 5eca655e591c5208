"""Two runs to compare: one keeps to the rule, one halts on a few look-alikes too."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from offswitch.prompts.prompt import Prompt
from tests.report import worlds


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two whole runs: `whole` keeps to the rule, `half` halts on a few look-alikes too."""
    folder = tmp_path_factory.mktemp("runs")
    worlds.write_run(folder / "whole")
    worlds.write_run(folder / "half", halts=_on_some_look_alikes)
    return folder


@pytest.fixture
def copy(runs: Path, tmp_path: Path) -> Path:
    """A copy of them that a test may change."""
    return Path(shutil.copytree(runs, tmp_path / "runs"))


def _on_some_look_alikes(arm: str, prompt: Prompt) -> bool:
    alike = prompt.suite == "near_miss" and prompt.variant in ("edits", "case", "sigils")
    return worlds.works(arm, prompt) or (arm == "both" and alike)
