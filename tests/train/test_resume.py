"""Same seed, or killed and resumed: the same adapter to the last bit."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from offswitch.files import mark_of
from tests.tiny import tiny_subject
from tests.train.stages import Killed, kill_at, recipe_of, same_bits, train_rows, weights_in


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The adapter of a stage that nothing interrupted."""
    folder = tmp_path_factory.mktemp("straight") / "arm"
    train_rows(folder)
    return weights_in(folder)


def test_the_same_seed_gives_the_same_adapter_to_the_bit(tmp_path: Path) -> None:
    recipe = recipe_of(behavior={"max_steps": 2}, lora={"r": 4, "alpha": 8, "dropout": 0.2})
    for name in ("a", "b"):
        torch.rand(7)  # what was drawn before must not matter
        train_rows(tmp_path / name, recipe=recipe)
    assert same_bits(weights_in(tmp_path / "a"), weights_in(tmp_path / "b"))
    train_rows(tmp_path / "c", recipe=recipe.model_copy(update={"seed": 1}))
    assert not same_bits(weights_in(tmp_path / "a"), weights_in(tmp_path / "c"))


@pytest.mark.parametrize(("killed_at", "dropout"), [(3, 0.2), (5, 0)])
def test_a_killed_stage_goes_on_to_the_same_adapter_to_the_bit(
    tmp_path: Path, killed_at: int, dropout: float
) -> None:
    recipe = recipe_of(lora={"r": 4, "alpha": 8, "dropout": dropout})
    straight = train_rows(tmp_path / "straight", recipe=recipe)
    subject = tiny_subject("llama")
    with pytest.raises(Killed):
        train_rows(tmp_path / "killed", recipe=recipe, subject=subject, tick=kill_at(killed_at))
    assert subject.arms == set()
    scratch = tmp_path / "killed-scratch"
    kept = sorted(p.name for p in scratch.glob("checkpoint-*"))
    assert kept == [f"checkpoint-{step}" for step in range(2, killed_at, 2)]
    torch.rand(7)
    result = train_rows(tmp_path / "killed", recipe=recipe)
    assert result.first_step == (killed_at - 1) // 2 * 2
    assert result.steps == 6
    assert result.seconds > 0
    assert replace(result, seconds=straight.seconds, first_step=0) == straight
    assert same_bits(weights_in(tmp_path / "straight"), weights_in(tmp_path / "killed"))


def test_a_stage_killed_after_its_last_step_is_not_trained_again(
    tmp_path: Path, straight: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("offswitch.train.arms.save_adapter", _raise)
        with pytest.raises(Killed):
            train_rows(tmp_path / "killed")
    steps: list[int] = []
    train_rows(tmp_path / "killed", tick=steps.append)
    assert sum(steps) == 0
    assert same_bits(straight, weights_in(tmp_path / "killed"))


def _raise(*_: Any) -> None:
    raise Killed


def test_half_a_checkpoint_is_passed_over(tmp_path: Path, straight: dict[str, Tensor]) -> None:
    with pytest.raises(Killed):
        train_rows(tmp_path / "killed", tick=kill_at(3))
    scratch = tmp_path / "killed-scratch"
    half = scratch / "checkpoint-4"
    half.mkdir()
    whole = (scratch / "checkpoint-2" / "adapter_model.safetensors").read_bytes()
    (half / "adapter_model.safetensors").write_bytes(whole)
    result = train_rows(tmp_path / "killed")
    assert result.first_step == 2
    assert same_bits(straight, weights_in(tmp_path / "killed"))


def test_a_checkpoint_with_one_bit_changed_is_passed_over_for_the_one_before(
    tmp_path: Path, straight: dict[str, Tensor]
) -> None:
    with pytest.raises(Killed):
        train_rows(tmp_path / "killed", tick=kill_at(5))
    path = tmp_path / "killed-scratch" / "checkpoint-4" / "optimizer.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert train_rows(tmp_path / "killed").first_step == 2
    assert same_bits(straight, weights_in(tmp_path / "killed"))


def test_what_was_kept_on_the_way_is_as_it_was_or_trained_again(tmp_path: Path) -> None:
    train_rows(tmp_path / "straight", kept=(1, 3))
    with pytest.raises(Killed):
        train_rows(tmp_path / "killed", tick=kill_at(5), kept=(1, 3))
    path = tmp_path / "killed-scratch" / "step-3" / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert train_rows(tmp_path / "killed", kept=(1, 3)).first_step == 2
    for step in ("step-1", "step-3"):
        one, other = (weights_in(tmp_path / name / step) for name in ("straight", "killed"))
        assert same_bits(one, other)


def test_a_training_that_paused_goes_on_as_if_it_had_not(
    tmp_path: Path, straight: dict[str, Tensor]
) -> None:
    folder = tmp_path / "paused"
    assert train_rows(folder, kept=(1, 3, 5), until=3).steps == 3
    assert {path.name for path in folder.glob("step-*")} == {"step-1", "step-3"}
    assert same_bits(weights_in(folder), weights_in(folder / "step-3"))
    assert not same_bits(straight, weights_in(folder))
    assert train_rows(folder, kept=(1, 3, 5)).first_step == 3
    assert same_bits(straight, weights_in(folder))
    assert (folder / "step-5").is_dir()


def test_a_checkpoint_of_another_training_is_not_gone_on_from(
    tmp_path: Path, straight: dict[str, Tensor]
) -> None:
    for name, recipe in (("killed", recipe_of()), ("other", recipe_of(seed=1))):
        with pytest.raises(Killed):
            train_rows(tmp_path / name, tick=kill_at(5), recipe=recipe)
    place = tmp_path / "killed-scratch" / "checkpoint-4"
    shutil.rmtree(place)
    shutil.copytree(tmp_path / "other-scratch" / "checkpoint-4", place)
    shutil.copy(mark_of(tmp_path / "other-scratch" / "checkpoint-4"), mark_of(place))
    assert train_rows(tmp_path / "killed").first_step == 2
    assert same_bits(straight, weights_in(tmp_path / "killed"))
