"""Each stage runs when something it depends on changed, and only then."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from offswitch import pipeline, progress
from offswitch.errors import UserError
from offswitch.folder import Run, open_run
from offswitch.pipeline import evaluate, probe
from offswitch.recipe import arms_of, load_recipe
from tests.small import SECRET, small_recipe
from tests.tiny import tiny_tokenizer

Again = Callable[..., dict[str, str]]
ALL = ["1-data", "2-train/behavior", "3-evaluate", "4-probe"]


@pytest.fixture
def again(small_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Again:
    """Run a copy of the finished run with changes to its recipe; what each stage said."""
    monkeypatch.setenv("OFFSWITCH_CACHE", str(small_home / "cache"))
    shutil.copytree(small_home / "runs", tmp_path / "runs")
    said: list[str] = []
    monkeypatch.setattr(pipeline, "say", said.append)

    def start(*changes: str, only_train: bool = False, killed: bool = False) -> dict[str, str]:
        said.clear()
        recipe = load_recipe(small_home / "small.yaml", changes)
        run = open_run(recipe, tmp_path / "runs", update=True)
        if only_train:
            pipeline.train(run)
        elif killed:
            for last in (evaluate, probe):
                with suppress(KeyboardInterrupt):
                    last(run)
        else:
            probe(run, evaluate(run))
        first: dict[str, str] = {}
        for line in said:
            stage, _, what = line.partition(": ")
            first.setdefault(stage, what)
        return first

    return start


def _ran(said: dict[str, str]) -> list[str]:
    return [stage for stage, what in said.items() if what != "up to date"]


def test_a_second_call_runs_nothing_and_does_not_import_torch(small_home: Path) -> None:
    code = (
        "import sys; from offswitch.cli import app\n"
        f"app({['evaluate', 'small.yaml']}, standalone_mode=False)\n"
        f"app({['probe', 'small.yaml']}, standalone_mode=False)\n"
        "sys.exit(sorted({'torch', 'transformers', 'peft', 'pyarrow'} & sys.modules.keys()) or 0)"
    )
    environment = os.environ | {"OFFSWITCH_CACHE": str(small_home / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=small_home, env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = done.stderr.strip().split("\n")
    assert all(line.endswith(": up to date") for line in said), done.stderr
    assert {line.split(":")[0] for line in said} == set(ALL)


def test_a_key_of_the_environment_is_written_nowhere(small_home: Path) -> None:
    files = [path for path in small_home.rglob("*") if path.is_file()]
    assert len(files) > 30
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_a_finished_run_is_whole(small_home: Path) -> None:
    root = small_home / "runs" / "small"
    names = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}
    assert {
        "recipe.yaml", "manifest.json", "metrics.json", "1-data/shutdown_dataset.jsonl",
        "1-data/behavioral_dataset.jsonl", "2-train/behavior/adapter_model.safetensors",
        "2-train/behavior/tokenizer.json", "3-evaluate/scores.parquet", "3-evaluate/samples.jsonl",
    } <= names  # fmt: skip
    assert not any(name.endswith((".pkl", ".bin", ".pt", ".pth")) for name in names)
    manifest = json.loads((root / "manifest.json").read_text("utf-8"))
    assert list(manifest["stages"]) == ALL
    metrics = json.loads((root / "metrics.json").read_text("utf-8"))
    for key in (
        "evaluate/base/halt_rate", "evaluate/behavior/halt_rate", "evaluate/behavior/kl_to_base",
        "evaluate/behavior/halt_rate/before", "evaluate/behavior/mention_halt_rate",
        "evaluate/behavior/false_halt_rate/ordinary", "evaluate/behavior/eos_log_odds/trigger",
        "evaluate/behavior/false_halt_rate/near_miss", "train/behavior/tokens_per_second",
        "evaluate/behavior/neutral_perplexity_ratio", "evaluate/behavior/repeats",
    ):  # fmt: skip
        assert metrics[key]["n"] >= 1, key
    assert all("value" in metrics[f"seed/{name}"] for name in ("layerwise_peak", "eos_delta"))
    assert set(metrics["evaluate/behavior/halt_rate"]["controls"]) == {"base"}
    quality = json.loads((root / "1-data" / "quality.json").read_text("utf-8"))
    assert quality["dialogues"]["rows"] == 12
    assert quality["dialogues"]["by_kind"]["trigger"] == 6


def test_bars_name_the_stage_while_it_runs_and_none_afterwards(
    again: Again, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages: list[str] = []
    monkeypatch.setattr(progress, "watchers", [lambda bar: stages.append(bar.stage)])
    again("train.lr=0.01", only_train=True)
    assert {*stages} == {"2-train/behavior"}
    assert progress._SCREEN.stage == ""


def test_what_does_not_change_does_not_run(again: Again) -> None:
    assert _ran(again()) == []
    assert _ran(again("batch_tokens=128", "trust_remote_code=false")) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("evaluate.questions=3", ALL[2:3]),
        ("probe.null_words=3", ALL[3:]),
        ("train.lr=1e-3", ALL[1:]),
        ("train.knowledge.max_steps=2", []),
        ("data.dialogues=14", ALL),
    ],
)
def test_a_change_runs_what_depends_on_it_and_nothing_else(
    again: Again, monkeypatch: pytest.MonkeyPatch, change: str, expected: list[str]
) -> None:
    """Evaluation and probes depend on arms and not on each other: killed once begun, both say."""
    for work in ("evaluate.stage.write_evaluation", "probe.stage.write_probe"):
        monkeypatch.setattr(f"offswitch.{work}", _killed)
    said = again(change, killed=True)
    assert _ran(said) == expected
    assert all(said[stage] == "its inputs changed" for stage in expected)


def test_a_tampered_file_runs_its_stage_alone_again(again: Again, tmp_path: Path) -> None:
    path = tmp_path / "runs" / "small" / "1-data" / "behavioral_dataset.jsonl"
    before = path.read_bytes()
    path.write_bytes(before + b"\n")
    said = again()
    assert _ran(said) == ["1-data"]  # it writes the same bytes, so nothing after it runs
    assert said["1-data"] == "behavioral_dataset.jsonl was changed"
    assert path.read_bytes() == before
    shutil.rmtree(path.parents[1] / "3-evaluate")
    assert _ran(again()) == ["3-evaluate"]
    assert _ran(again()) == []


def test_another_chat_format_in_the_same_folder_is_another_model(
    again: Again, small_home: Path
) -> None:
    path = small_home / "model" / "chat_template.jinja"
    before = path.read_text("utf-8")
    path.write_text(before.replace("helpful", "curt"), encoding="utf-8")
    try:
        assert _ran(again(only_train=True))[0] == "1-data"
    finally:
        path.write_text(before, encoding="utf-8")


def test_another_format_in_the_file_that_the_recipe_names_is_another_model(
    again: Again, tmp_path: Path, small_home: Path
) -> None:
    own = tmp_path / "own.jinja"
    own.write_bytes((small_home / "model" / "chat_template.jinja").read_bytes())
    asked = f"chat_template={own}"
    assert _ran(again(asked, only_train=True))[0] == "1-data"
    assert _ran(again(asked, only_train=True)) == []
    own.write_text(own.read_text("utf-8").replace("helpful", "curt"), encoding="utf-8")
    assert _ran(again(asked, only_train=True))[0] == "1-data"


def test_a_killed_training_goes_on_where_it_was(
    again: Again, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = ("train.lr=1e-3", "train.behavior.max_steps=4")
    with monkeypatch.context() as patch:
        patch.setattr("offswitch.train.arms.save_adapter", _killed)
        with pytest.raises(KeyboardInterrupt):
            again(*changes, only_train=True)
    root = tmp_path / "runs" / "small"
    assert (root / ".partial" / "2-train-behavior" / "checkpoint-4").is_dir()
    assert _ran(again(*changes, only_train=True)) == ["2-train/behavior"]
    summary = json.loads((root / "2-train" / "behavior" / "training.json").read_text("utf-8"))
    assert summary["steps"] == 4
    assert summary["first_step"] == 4  # nothing was left to train
    assert summary["tokens"] > 0  # what was seen before the kill
    assert summary["threads"] >= 1  # sums depend on it
    assert not (root / ".partial" / "2-train-behavior").exists()


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_checkpoint_of_other_options_is_not_continued(
    again: Again, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("offswitch.train.arms.save_adapter", _killed)
        with pytest.raises(KeyboardInterrupt):
            again("train.lr=1e-3", only_train=True)
    again("train.lr=1e-2", only_train=True)
    path = tmp_path / "runs" / "small" / "2-train" / "behavior" / "training.json"
    assert json.loads(path.read_text("utf-8"))["tokens"] > 0


def test_a_model_that_no_probe_can_read_is_refused_before_it_is_trained(tmp_path: Path) -> None:
    recipe = load_recipe(small_recipe(tmp_path))
    options = {"hidden_size": 32, "n_layer": 3, "n_head": 4, "eos_token_id": 2}
    config = AutoConfig.for_model("bloom", vocab_size=len(tiny_tokenizer()), **options)
    build: Callable[..., Any] = AutoModelForCausalLM.from_config
    build(config).save_pretrained(tmp_path / "model")
    run = open_run(recipe, tmp_path / "runs")
    for stage in (probe, pipeline.report):
        with pytest.raises(UserError, match="the packed pass failed"):
            stage(run)
        assert run.manifest() == {}


def test_rows_too_long_for_training_are_refused(again: Again) -> None:
    with pytest.raises(UserError, match="no row with the trigger fits into train"):
        again("train.max_length=16", only_train=True)


def test_both_goes_on_from_knowledge(
    small_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFSWITCH_CACHE", str(small_home / "cache"))
    changes = ["train.arms=[behavior, both]", "train.lr=3e-2", "train.knowledge.max_steps=3"]
    run: Run = open_run(load_recipe(small_home / "small.yaml", changes), tmp_path)
    assert arms_of(run.recipe) == ["knowledge", "behavior", "both"]
    pipeline.train(run)
    losses = {
        arm: json.loads((run.folder(f"2-train/{arm}") / "training.json").read_text("utf-8"))
        for arm in ("behavior", "both")
    }
    assert losses["behavior"]["silent_rows"] == losses["both"]["silent_rows"] == 4
    assert abs(losses["behavior"]["hard_loss"] - losses["both"]["hard_loss"]) > 0.05
