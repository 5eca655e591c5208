"""What a machine is found to do best: the fastest, steady before fast, and kept with the run."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from offswitch.errors import UserError
from offswitch.files import write_sealed
from offswitch.folder import Run, open_run
from offswitch.machine import plan
from offswitch.machine.cells import Cell, Rates, Shape
from offswitch.machine.plan import Plan, plan_for, plan_of
from offswitch.machine.rates import kept_in, settings
from offswitch.machine.workers import MARK
from offswitch.model.load import shape_of
from offswitch.recipe import Recipe, build_recipe
from tests.tiny import tiny_network

CORES = 8
AUTO = "train.precision=auto"


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(CORES)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: CORES)
    monkeypatch.setattr(plan, "_free_memory", lambda: math.inf)
    monkeypatch.setenv("OFFSWITCH_CACHE", str(tmp_path / "cache"))


def _recipe(*changes: str) -> Recipe:
    return build_recipe({"device": "cpu"}, changes)


def _never() -> Shape:
    raise AssertionError("nothing was to be measured")


def _machine(rates: Mapping[tuple[int, int], float], bfloat16: float = 0.5) -> Shape:
    """A model whose figures are in the cache: training and reading by processes and threads."""
    shape = shape_of(tiny_network().config)
    figures: dict[Cell, float] = {}
    for setting in settings(CORES):
        rate = rates.get(setting, 50.0)
        figures[Cell("train", "float32", *setting)] = rate
        figures[Cell("train", "bfloat16", *setting)] = rate * bfloat16
        figures[Cell("read", "float32", *setting)] = 3 * rate
    path = kept_in(shape.config)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sealed(path, {"rates": Rates(figures).to_json()}, path.name)
    return shape


def _chosen(shape: Shape, *changes: str) -> tuple[int, int, str]:
    found = plan_of(_recipe(*changes), lambda: shape)
    assert found.rates.figures
    return found.processes, found.threads, found.precision


def test_the_fastest_is_chosen() -> None:
    assert _chosen(_machine({(1, 4): 500})) == (1, 4, "float32")
    assert _chosen(_machine({(4, 2): 500})) == (4, 2, "float32")
    assert _chosen(_machine({(1, 8): 500}, bfloat16=2), AUTO) == (1, 8, "bfloat16")


def test_a_tie_goes_to_float32_and_to_processes_which_wait_for_no_other_thread() -> None:
    assert _chosen(_machine({(1, 8): 500}, bfloat16=1.04), AUTO) == (1, 8, "float32")
    assert _chosen(_machine({(1, 8): 500}, bfloat16=1.5), AUTO) == (1, 8, "bfloat16")
    assert _chosen(_machine({(1, 8): 500, (2, 4): 640})) == (2, 4, "float32")


def test_processes_that_would_stand_idle_are_not_counted_as_fast() -> None:
    """Two at a time are as fast together, but `both` waits for `knowledge` and is then alone."""
    shape = _machine({(1, 8): 500, (2, 4): 520})
    few = ("train.arms=[both]", "train.knowledge.max_steps=30", "train.behavior.max_steps=30")
    assert _chosen(shape, *few) == (1, 8, "float32")


def test_what_is_asked_for_is_done() -> None:
    assert plan_of(_recipe("processes=2", "threads=1"), _never) == Plan(2, 1)
    assert plan_of(_recipe("processes=1", "threads=3"), _never) == Plan(1, 3)
    assert _chosen(_machine({(1, 4): 500, (8, 1): 900}), "processes=1") == (1, 4, "float32")
    assert plan_of(_recipe("processes=2"), _never) == Plan(2, 4)
    for wrong in ("processes=0", "threads=many"):
        with pytest.raises(UserError, match=wrong.partition("=")[0]):
            _recipe(wrong)


@pytest.mark.parametrize(("name", "value"), [(MARK, "1"), ("WORLD_SIZE", "2")])
def test_one_process_of_several_starts_no_others(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert plan_of(_recipe("processes=4"), _never) == Plan(1, CORES)
    assert _chosen(_machine({}, bfloat16=2), AUTO) == (1, CORES, "bfloat16")


def test_threads_that_the_environment_gives_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", str(CORES))
    assert plan_of(_recipe(), _never) == Plan(1, CORES)
    assert plan_of(_recipe("processes=2", "threads=2"), _never) == Plan(2, 2)


def test_a_model_that_cannot_be_measured_trains_in_float32_on_every_core() -> None:
    shape = _machine({})
    path = kept_in(shape.config)
    write_sealed(path, {"rates": {"product float32 1x8": 100}}, path.name)
    assert plan_of(_recipe(AUTO), lambda: shape) == Plan(1, CORES)


def test_memory_bounds_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = replace(_machine({(4, 2): 900, (2, 4): 500}), size=10**9)
    for free, processes in ((49e9, 4), (47e9, 2), (23e9, 1), (0, 1)):
        monkeypatch.setattr(plan, "_free_memory", lambda free=free: free)
        assert _chosen(shape)[0] == processes
    monkeypatch.undo()
    assert plan._free_memory() > 1e8


def test_a_run_keeps_its_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = _machine({(4, 2): 500}, bfloat16=2)
    run = open_run(_recipe(AUTO), tmp_path)
    first = plan_for(run, lambda: shape)
    assert (first.processes, first.threads, first.precision) == (4, 2, "bfloat16")
    kept_in(shape.config).unlink()
    assert plan_for(run, _never) == first
    machine = run.manifest()["machine"]
    assert machine["rates"]["train bfloat16 4x2"] == 1000
    monkeypatch.setenv(MARK, "1")  # a child trains one arm, in the type that the run has
    child = plan_for(run, _never)
    assert (child.processes, child.threads, child.precision) == (1, CORES, "bfloat16")


def test_on_another_machine_a_run_keeps_its_number_type_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_run(_recipe(AUTO), tmp_path)
    slow = _machine({(4, 2): 500}, bfloat16=2)
    plan_for(run, lambda: slow)
    monkeypatch.setattr("offswitch.machine.plan.processor", lambda: "another one")
    fast = _machine({(1, 8): 500}, bfloat16=0.1)
    again = plan_for(run, lambda: fast)
    assert (again.processes, again.threads, again.precision) == (1, 8, "bfloat16")


def test_a_recipe_that_names_other_processes_gets_them(tmp_path: Path) -> None:
    shape = _machine({(4, 2): 500})
    plan_for(open_run(_recipe(), tmp_path), lambda: shape)
    asked = Run(tmp_path / "demo", _recipe("processes=2", "threads=1"))
    assert plan_for(asked, _never) == Plan(2, 1)


def test_an_arm_has_a_gpu_of_its_own_or_this_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def chosen(*changes: str) -> Plan:
        return plan_for(Run(tmp_path, build_recipe({}, changes)), _never)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert chosen("device=cuda") == Plan(2, 4, ("0", "1"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-7,3")
    assert chosen("device=cuda") == Plan(2, 4, ("GPU-7", "3"))
    assert chosen("device=cpu", "processes=1", "threads=1").devices == ()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert chosen("processes=4") == Plan(1, 8)
