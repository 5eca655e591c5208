"""A run begins with how long it will take, and says nothing where nothing is left to do."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from offswitch import progress
from offswitch.files import digest, write_sealed
from offswitch.folder import Run, open_run
from offswitch.machine.cells import Cell, Rates
from offswitch.machine.estimate import stages_of
from offswitch.machine.rates import kept_in, settings
from offswitch.machine.time_left import begins
from offswitch.model.session import Session
from offswitch.recipe import Recipe, load_recipe
from offswitch.study.stage import time_told
from tests.small import small_recipe


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run of a tiny model that has not begun, on two cores that were measured before."""
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setenv("OFFSWITCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(progress, "console", Console(file=io.StringIO(), width=200))
    recipe = load_recipe(small_recipe(tmp_path), ["variants={more: {train.lr: 1e-3}}"])
    run = open_run(recipe, tmp_path)
    config = Session(run).shape().config
    cells = [Cell("read", "float32", *setting) for setting in settings(2)]
    cells += [Cell("train", "float32", *setting) for setting in settings(2)]
    kept_in(config).parent.mkdir(parents=True)
    rates = {"rates": Rates(dict.fromkeys(cells, 50.0)).to_json()}
    write_sealed(kept_in(config), rates, kept_in(config).name)
    return run


def _said() -> str:
    assert isinstance(progress.console.file, io.StringIO)
    return progress.console.file.getvalue()


def _finish(run: Run, recipe: Recipe, within: str, last: str) -> None:
    manifest = {
        "recipe": digest(recipe.model_dump(mode="json")),
        "stages": {name: {"outputs": {}} for name in stages_of(recipe, last)},
    }
    (run.root / within).mkdir(parents=True, exist_ok=True)
    write_sealed(run.root / within / "manifest.json", manifest, recipe.name)


def test_a_run_begins_with_an_estimate_of_all_that_is_left(run: Run) -> None:
    with time_told(run, Session(run)):
        whole = begins("", "1-data")
    assert " min for the whole run, with 2 threads, training in float32" in _said()
    assert " min left of the whole run" in whole
    assert run.manifest()["machine"]["plan"]["threads"] == 2
    _finish(run, run.recipe, "", "5-report")
    with time_told(run, Session(run)):  # the variant is not there yet
        rest = begins("", "1-data")
    minutes = [float(words.split()[2]) for words in (whole, rest)]
    assert 0 < minutes[1] < minutes[0]


def test_a_finished_run_is_told_nothing(run: Run) -> None:
    from offswitch.study.plan import variant_points

    _finish(run, run.recipe, "", "5-report")
    for point in variant_points(run.recipe):
        _finish(run, point.recipe, f"variants/{point.recipe.name}", "3-evaluate")
    with time_told(run, Session(run)):
        assert begins("", "1-data") == ""
    assert _said() == ""
