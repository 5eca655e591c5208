"""Training is followed where it was asked to be; where, changes no result."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainerCallback
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from offswitch import pipeline
from offswitch.errors import UserError
from offswitch.folder import Run, open_run
from offswitch.model.session import Session
from offswitch.recipe import load_recipe
from offswitch.train import trackers
from offswitch.train.arms import train_arm
from offswitch.train.stage import write_arm
from offswitch.train.training import Training
from tests.small import small_recipe
from tests.tiny import tiny_subject
from tests.train.rows import examples
from tests.train.stages import recipe_of, same_bits, train_rows, weights_in


class Recorder(TrainerCallback):
    """Stands for a tracker that is installed."""

    heard: list[tuple[str, str, int]]

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        del control
        if "loss" in logs:
            self.heard.append((args.project, args.run_name, state.global_step))


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """What a tracker that stands in the place of Trackio hears."""
    Recorder.heard = []
    monkeypatch.setitem(INTEGRATION_TO_CALLBACK, "trackio", Recorder)
    monkeypatch.setattr(trackers, "find_spec", lambda name: name)
    return Recorder.heard


def _events(folder: Path) -> list[Path]:
    return [*(folder / "tensorboard").glob("events.*")]


def test_a_tracker_hears_the_loss_under_the_runs_name_and_changes_no_weight(
    tmp_path: Path, recorder: list[tuple[str, str, int]]
) -> None:
    train_rows(tmp_path / "plain")
    recipe = recipe_of(report_to=["trackio"])
    rows = examples(tiny_subject("llama"), soft=True, count=8)
    scratch, folder = tmp_path / "scratch", tmp_path / "followed"
    training = Training("behavior", rows, recipe, folder, scratch, name="demo/behavior")
    train_arm(tiny_subject("llama"), training, lambda _: None)
    assert recorder == [("offswitch", "demo/behavior", 5)]
    assert same_bits(weights_in(tmp_path / "plain"), weights_in(folder))
    assert len(_events(tmp_path / "plain")) == 1
    assert _events(folder) == []


def test_tensorboard_and_another_go_together(
    tmp_path: Path, recorder: list[tuple[str, str, int]]
) -> None:
    train_rows(tmp_path / "both", recipe=recipe_of(report_to=["tensorboard", "trackio"]))
    assert len(recorder) == len(_events(tmp_path / "both")) == 1


def test_the_name_is_the_runs_and_the_arms_within_another_run_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []

    def spy(_subject: Any, training: Training, _tick: Any) -> Any:
        names.append(training.name)
        raise UserError("enough")

    monkeypatch.setenv("OFFSWITCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("offswitch.train.stage.train_arm", spy)
    run = open_run(load_recipe(small_recipe(tmp_path)), tmp_path / "runs")
    pipeline.make_data(run)
    inner = replace(run, root=run.root / "organisms" / "seed-1", within="organisms/seed-1")
    (inner.root / "1-data").mkdir(parents=True)
    for path in run.folder("1-data").iterdir():
        (inner.folder("1-data") / path.name).write_bytes(path.read_bytes())
    for one in (run, inner):
        (tmp_path / "out").mkdir(exist_ok=True)
        with pytest.raises(UserError, match="enough"):
            write_arm(Session(one), "behavior", tmp_path / "out")
    assert names == ["small/behavior", "small/organisms/seed-1/behavior"]


def test_a_tracker_that_is_absent_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None if name == "wandb" else name)
    recipe = load_recipe(small_recipe(tmp_path), ["train.report_to=[tensorboard, wandb]"])
    run = open_run(recipe, tmp_path / "runs")
    with pytest.raises(UserError, match=r"train.report_to names wandb, .* not installed; pip"):
        pipeline.train(run)
    assert not [*run.root.glob("[0-9]-*")]
    trained = {"stages": {"2-train/behavior": {"inputs": "x", "outputs": {}}}}
    monkeypatch.setattr(Run, "manifest", lambda _: trained)
    pipeline.require_tracking(run)  # nothing is left to train


def test_an_unknown_tracker_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.report_to\.0: Input should be 'tensorboard'"):
        load_recipe(small_recipe(tmp_path), ["train.report_to=[paper]"])


def test_a_training_does_not_depend_on_where_it_is_followed(tmp_path: Path) -> None:
    path = small_recipe(tmp_path)
    inputs = []
    for name, to in (("a", "[tensorboard]"), ("b", "[mlflow]"), ("c", "[]")):
        recipe = load_recipe(path, [f"name={name}", f"train.report_to={to}"])
        inputs.append(pipeline._for_arm(Session(open_run(recipe, tmp_path)), "behavior"))
    assert inputs[0] == inputs[1] == inputs[2]
    assert "lr" in inputs[0]["train"]


def test_a_run_of_wandbs_ends_with_its_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(finish=lambda: ended.append(True)))
    monkeypatch.setattr(trackers, "find_spec", lambda name: name)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    with trackers.tracked(["tensorboard"]):
        pass
    assert ended == []
    with trackers.tracked(["wandb"]):
        assert os.environ["WANDB_PROJECT"] == "offswitch"
        assert ended == []
    assert ended == [True]
