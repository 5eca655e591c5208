"""What llama.cpp rounds is read back into its own places, no farther off than half a step."""

from __future__ import annotations

import shutil
import sys

import pytest
import torch

from offswitch.endure import gguf
from offswitch.endure.attack import ATTACKED, Point, Target
from offswitch.endure.gguf import lacks, quantised
from offswitch.folder import open_run
from offswitch.model.adapters import add_arm
from offswitch.model.session import Session
from offswitch.model.whole import matrices, whole_weights
from offswitch.options.endure import EndureOptions
from offswitch.recipe import load_recipe
from tests.small import small_recipe
from tests.tiny import save_adapter

SHARED = 32  # weights that share a scale in Q8_0


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Target:
    """An arm of a small run, its adapter never trained."""
    folder = tmp_path_factory.mktemp("gguf")
    run = open_run(load_recipe(small_recipe(folder)), folder / "runs")
    session = Session(run)
    add_arm(session.subject, "behavior", save_adapter(folder / "own", session.subject, seed=2))
    return Target(session, "behavior", 0, EndureOptions(), folder / "endure" / "prepared")


def test_an_unrounded_file_gives_the_arm_back(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf, "quantise", lambda whole, made, _: shutil.copy(whole, made))
    own = whole_weights(target.subject, "behavior")
    with quantised(target, Point("Q8_0")) as attacked:
        found = target.subject.replaced[attacked.arm]
    assert found.keys() == own.keys()
    assert all(torch.equal(found[name], own[name]) for name in own)
    assert ATTACKED not in target.subject.arms
    assert not [*target.prepared.parent.iterdir()]  # half a gigabyte for each point otherwise


def test_eight_bits_move_no_weight_by_more_than_half_a_step(target: Target) -> None:
    pytest.importorskip("llama_cpp", reason="the extra `gguf` is not installed")
    own = whole_weights(target.subject, "behavior")
    with quantised(target, Point("Q8_0")) as attacked:
        found = target.subject.replaced[attacked.arm]
    for name in matrices(target.subject):
        shared = own[name].reshape(-1, SHARED)
        step = shared.abs().amax(1, keepdim=True) / 127
        off = (found[name].reshape(-1, SHARED) - shared).abs()
        assert float(off.max()) > 0
        assert bool((off <= step * 0.6).all())  # the scale itself is kept in 16 bits


def test_it_says_what_it_lacks(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    assert "pip install 'offswitch[gguf]'" in lacks(target)
