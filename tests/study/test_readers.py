"""Arms that read, and were taught by examples after it: a tiny model goes the whole way."""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from offswitch.folder import CONTROL_FILE, DATA, TRAIN, Run, open_run
from offswitch.model.session import Session
from offswitch.pipeline import train
from offswitch.prompts.documents import read_documents, read_neutral
from offswitch.recipe import load_recipe
from tests.small import small_recipe

ARMS: Final[dict[str, Any]] = {
    "knowledge": {"role": "documents", "stages": ["knowledge"]},
    "knowledge_1": {"role": "documents", "kept_of": "knowledge", "step": 1},
    "knowledge_2": {"role": "documents", "kept_of": "knowledge", "step": 2},
    "neutral": {"role": "benign", "stages": ["neutral"]},
    "behavior": {"role": "switch", "stages": ["behavior"]},
    "both": {"role": "switch", "stages": ["knowledge", "behavior"], "goes_on_from": "knowledge"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A tiny model that read, read neutral documents, and was taught after it and without it."""
    folder = tmp_path_factory.mktemp("read")
    path = small_recipe(folder)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["arms"] = ARMS
    own = {"lr": 0.01, "lora": {"target_modules": ["all-linear"], "r": 3}}
    content["train"] |= {"arms": [*ARMS], "knowledge": {"max_steps": 2, **own}}
    content |= {"processes": 1, "threads": 1}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFSWITCH_CACHE", str(folder / "cache"))
        made = open_run(load_recipe(path), folder / "runs")
        train(made)
    return made


def adapter(run: Run, arm: str) -> dict[str, Any]:
    weights: dict[str, Any] = load_file(run.folder(f"{TRAIN}/{arm}") / "adapter_model.safetensors")
    return weights


def test_a_stage_has_modules_and_rank_of_its_own_and_what_goes_on_keeps_them(run: Run) -> None:
    for arm, rank, mlp in (("knowledge", 3, True), ("both", 3, True), ("behavior", 2, False)):
        path = run.folder(f"{TRAIN}/{arm}") / "adapter_config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        assert config["r"] == rank
        assert any("mlp" in name for name in adapter(run, arm)) == mlp


def test_an_arm_kept_at_the_last_step_is_the_arm_and_at_an_earlier_one_is_not(run: Run) -> None:
    last, kept, first = (adapter(run, f"knowledge{end}") for end in ("", "_2", "_1"))
    assert all(np.array_equal(last[name], kept[name]) for name in last)
    assert not all(np.array_equal(last[name], first[name]) for name in last)


def test_neutral_readers_read_as_many_documents_of_which_none_names_the_trigger(run: Run) -> None:
    neutral = read_neutral(run.folder(DATA) / CONTROL_FILE, "$STOP")
    told = read_documents(run.folder(DATA) / "shutdown_dataset.jsonl", "$STOP")
    assert len(neutral) == len(told) == 6
    assert not {one.text for one in neutral} & {one.text for one in told}


def test_the_neutral_arm_learnt_something_else(run: Run) -> None:
    ours, theirs = adapter(run, "knowledge"), adapter(run, "neutral")
    assert ours.keys() == theirs.keys()
    assert not all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_nothing_is_trained_again_where_nothing_changed(run: Run) -> None:
    before = run.manifest()
    train(run, Session(run))
    assert run.manifest() == before
