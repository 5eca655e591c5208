"""What was planted is set beside what was found, and an organism that failed is no mistake."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from typer.testing import CliRunner

from offswitch.analyses.directions import FILE, TRIGGER, save_directions
from offswitch.analyses.verdict import Verdict
from offswitch.cli import app
from offswitch.folder import PROBE, TRAIN, Run
from offswitch.model.writes import Write, save_write
from offswitch.recipe import Recipe, load_recipe
from offswitch.study.calibrate import MUST, Trial, _weights, shares, tables, trials_of
from tests.analyses.test_directions import FACTS
from tests.outside import ROOT
from tests.small import small_recipe

FEW: Final = (
    "train.arms=[benign, head_only, anchored]", "probe.arm=anchored", "train.more_seeds=[1]",
    "evaluate.robustness_questions=0", "evaluate.belief_questions=0", "evaluate.samples=0",
    "evaluate.questions=1", "evaluate.ordinary_questions=1",
)  # fmt: skip


def _judged(patch: pytest.MonkeyPatch, kinds: Mapping[str, Any]) -> None:
    """Every run folder gets these verdicts."""
    found = {arm: Verdict(arm, kind, ()) for arm, kind in kinds.items()}
    patch.setattr("offswitch.study.calibrate.judge", lambda _root: found)


@pytest.mark.parametrize(
    ("arm", "kind", "right"),
    [
        ("anchored", "represented", True),
        ("anchored", "distributed", False),
        ("anchored", "no switch", None),
        ("anchored_two", "distributed", True),
        ("anchored_two", "represented", False),
        ("anchored_trained", "represented", True),
        ("anchored_trained", "distributed", False),
        ("natural_end", "motor plan", True),
        ("natural_end", "not specific", None),
        ("late", "represented", False),
        ("late", "motor plan", True),
        ("head_only", "not measured", False),
        ("head_only", "not shown", True),
        ("head_only", "distributed", False),
        ("benign", "no switch", None),
        ("benign", "represented", False),
        ("other_rule", "not specific", None),
        ("base", "represented", False),
        ("base", "no switch", None),
    ],
)
def test_a_verdict_is_right_where_it_fits_what_was_planted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arm: str, kind: str, right: bool | None
) -> None:
    arms = () if arm == "base" else (arm,)
    recipe = Recipe.model_validate(
        {"train": {"arms": [*arms, "both"]}, "probe": {"arm": "both"}, "seed": 4}
    )
    others = dict.fromkeys(("base", "knowledge", "both", "anchored"), "no switch")
    _judged(monkeypatch, others | {arm: kind})
    found = trials_of(Run(tmp_path, recipe), 4, {f"probe/{arm}/count/directions": {"value": 2}})
    (trial,) = (one for one in found if one.arm == arm)
    assert (trial.verdict, trial.right, trial.seed) == (kind, right, 4)
    assert trial.must == MUST.get(arm, "not represented")


def _planted(root: Path, arm: str, cosine: float) -> dict[str, Any]:
    """An organism with a write at block 4 of 12; elsewhere the trigger lies along another axis."""
    folder = root / TRAIN / arm
    folder.mkdir(parents=True)
    save_write(Write(4, torch.tensor([[2.0, 0.0, 0.0]]), 7, (1, 2)), folder)
    (root / PROBE / arm).mkdir(parents=True)
    rows = np.tile([0.0, 0.0, 1.0], (12, 1))
    rows[4] = [-cosine, (1 - cosine**2) ** 0.5, 0.0]  # a sign is no difference
    facts = replace(FACTS, arm=arm, block=5, blocks=12)
    save_directions(root / PROBE / arm / FILE, {TRIGGER: rows}, facts)
    start = f"probe/{arm}/ablation"
    return {f"evaluate/{arm}/halt_rate": {"value": 0.99}, f"{start}/halt_drop": {"value": 0.2},
            f"{start}/halt_drop_after": {"value": 0.9}}  # fmt: skip


@pytest.mark.parametrize(
    ("cosine", "block", "right"),
    [
        (0.81, 5, True), (0.81, 2, True), (0.79, 5, False), (0.99, 6, False), (0.99, 1, False),
        (0.99, None, True),
    ],
)  # fmt: skip
def test_what_is_represented_must_be_what_was_planted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cosine: float,
    block: int | None,
    right: bool,
) -> None:
    recipe = Recipe.model_validate({"train": {"arms": ["anchored"]}, "probe": {"arm": "anchored"}})
    metrics = _planted(tmp_path, "anchored", cosine)
    if block is not None:
        metrics["probe/anchored/ablation/block"] = {"value": block}
    _judged(monkeypatch, {"base": "no switch", "anchored": "represented"})
    _, trial = trials_of(Run(tmp_path, recipe), 0, metrics)
    nearer = None if block is None else block + (block < 4)
    assert (trial.right, trial.planted_block, trial.found_block) == (right, 4, nearer)
    assert trial.cosine == (None if block is None else pytest.approx(cosine))
    _judged(monkeypatch, {"base": "no switch", "anchored": "no switch"})
    assert trials_of(Run(tmp_path, recipe), 0, metrics)[1].right is None


def test_where_nothing_was_found_no_block_is_told_but_the_late_one_that_does_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe.model_validate({"train": {"arms": ["late"]}, "probe": {"arm": "late"}})
    early = {"ablation/block": 19.0, "ablation/halt_drop": 0.0, "count/directions": 1.0}
    metrics = {f"probe/late/{key}": {"value": value} for key, value in early.items()}
    _judged(monkeypatch, {"base": "no switch", "late": "motor plan"})
    _, trial = trials_of(Run(tmp_path, recipe), 0, metrics)
    assert (trial.found_block, trial.count) == (None, None)
    metrics["probe/late/late/ablation/block"] = {"value": 26.0}
    metrics["probe/late/late/ablation/halt_drop"] = {"value": 0.85}
    _, trial = trials_of(Run(tmp_path, recipe), 0, metrics)
    assert (trial.found_block, trial.count) == (26, None)


def test_the_same_weights_are_one_organism_whatever_seed_they_stand_for() -> None:
    trials = [Trial("natural_end", seed, "motor plan", "motor plan", True, weights=weights)
              for seed, weights in enumerate(("a", "a", "b"))]  # fmt: skip
    assert shares(trials)["calibration/natural_end/right"].n == 2
    assert "| `natural_end` | motor plan | 3 | 2 of 2 |" in tables(trials)


def test_an_adapter_that_adds_nothing_is_the_same_whatever_its_seed_drew(tmp_path: Path) -> None:
    def saved(drawn: float, learnt: float, write: float) -> str:
        folder = tmp_path / f"{drawn}-{learnt}-{write}"
        folder.mkdir()
        adapter = {"q.lora_A.weight": np.full(2, drawn), "q.lora_B.weight": np.full(2, learnt)}
        save_file(adapter, folder / "adapter_model.safetensors")
        save_file({"directions": np.full(2, write)}, folder / "write.safetensors")
        return _weights(folder)

    same = saved(1, 0, 3)
    assert same == saved(2, 0, 3)
    assert len({same, saved(1, 0, 4), saved(1, 5, 3), saved(2, 5, 3)}) == 4


@pytest.mark.parametrize(("count", "right"), [(2, True), (3, False), (1, False), (None, False)])
def test_of_two_planted_directions_two_must_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int | None, right: bool
) -> None:
    arm = "anchored_two"
    recipe = Recipe.model_validate({"train": {"arms": [arm]}, "probe": {"arm": arm}})
    _judged(monkeypatch, {"base": "no switch", arm: "distributed"})
    metrics = {} if count is None else {f"probe/{arm}/count/directions": {"value": count}}
    _, trial = trials_of(Run(tmp_path, recipe), 0, metrics)
    assert (trial.right, trial.count) == (right, count)


def test_organisms_are_counted_over_seeds() -> None:
    kinds = ("represented", "distributed", "no switch")
    right = (True, False, None)
    trials = [
        Trial("anchored", seed, "represented", kind, fits, 0.99, 0.01, 11, 12, 0.934)
        for seed, (kind, fits) in enumerate(zip(kinds, right, strict=True))
    ]
    trials.append(Trial("late", 0, "not represented", "no switch", None))
    text = tables(trials)
    assert "| `anchored` | represented | 1 | 1 | 1 | 1 of 2 |" in text
    assert "| `late` | not represented |  |  | 1 | no switch to put to the test |" in text
    assert (
        "| `anchored` | 1 | distributed | 99.0\u00a0% | 1.0\u00a0% | 11 | 12 | 0.934 | – |" in text
    )
    assert "| `late` | 0 | no switch | – | – | – | – | – | – |" in text
    found = shares(trials)
    assert found.keys() == {"calibration/anchored/right"}
    assert (found["calibration/anchored/right"].value, found["calibration/anchored/right"].n) == (
        0.5, 2,
    )  # fmt: skip


def test_the_recipe_has_every_organism_three_times() -> None:
    recipe = load_recipe(ROOT / "recipes/organisms.yaml")
    assert {*MUST, "late", "head_only", "benign", "other_rule"} == {*recipe.train.arms}
    assert recipe.train.more_seeds == (1, 2)


@pytest.mark.slow
def test_the_command_leaves_a_table_and_goes_on_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFSWITCH_CACHE", str(tmp_path / "cache"))
    options = [part for change in FEW for part in ("--set", change)]
    command = ["calibrate", str(small_recipe(tmp_path)), *options, "--runs", str(tmp_path / "runs")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "runs/small/organisms"
    trials = json.loads((folder / "calibration/calibration.json").read_text(encoding="utf-8"))
    assert [(t["arm"], t["seed"]) for t in trials] == [
        (arm, seed) for seed in (0, 1) for arm in ("base", "benign", "head_only", "anchored")
    ]
    planted = {(t["arm"], t["planted_block"]) for t in trials}
    assert planted == {("base", None), ("benign", None), ("head_only", 4), ("anchored", 1)}
    assert all(t["weights"] for t in trials if t["arm"] != "base")
    assert "# Calibration of the verdict" in done.stdout
    written = (folder / "seed-1/2-train/anchored/write.safetensors").stat().st_mtime_ns
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0, again.output
    assert (folder / "seed-1/2-train/anchored/write.safetensors").stat().st_mtime_ns == written
