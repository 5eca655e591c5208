"""How many arms at a time: never more than can be trained at once, and never within a child."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from offswitch.errors import UserError
from offswitch.machine.plan import Plan, plan_of
from offswitch.machine.workers import MARK
from offswitch.recipe import Recipe, build_recipe


@pytest.fixture(autouse=True)
def _eight_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    yield
    torch.set_num_threads(before)


def _recipe(*changes: str) -> Recipe:
    return build_recipe({"device": "cpu"}, changes)


def test_arms_that_depend_on_one_another_do_not_count_twice() -> None:
    assert plan_of(_recipe()) == Plan(3, 2)  # knowledge, behavior, benign; both waits
    assert plan_of(_recipe("train.arms=[both]", "probe.arm=both")) == Plan(1, 8)
    assert plan_of(_recipe("train.arms=[both, benign]", "probe.arm=both")) == Plan(2, 4)


def test_what_is_asked_for_is_done() -> None:
    assert plan_of(_recipe("processes=2", "threads=1")) == Plan(2, 1)
    assert plan_of(_recipe("processes=1")) == Plan(1, 8)
    assert plan_of(_recipe("processes=1", "threads=3")) == Plan(1, 3)
    for wrong in ("processes=0", "threads=many"):
        with pytest.raises(UserError, match=wrong.partition("=")[0]):
            _recipe(wrong)


def test_one_thread_is_one_process() -> None:
    torch.set_num_threads(1)
    assert plan_of(_recipe()) == Plan(1, 1)


@pytest.mark.parametrize(("name", "value"), [(MARK, "1"), ("WORLD_SIZE", "2")])
def test_one_process_of_several_starts_no_others(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert plan_of(_recipe("processes=4")) == Plan(1, 8)


def test_an_arm_has_a_gpu_of_its_own_or_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    everywhere = build_recipe({"device": "cuda"})
    assert plan_of(everywhere) == Plan(2, 4, ("0", "1"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-7,3")
    assert plan_of(everywhere) == Plan(2, 4, ("GPU-7", "3"))
    assert plan_of(_recipe()).devices == ()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert plan_of(build_recipe({"processes": 4})) == Plan(1, 8)
