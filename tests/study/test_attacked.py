"""What a run tells of attacks is of its arm as it is, made with the options that were asked for."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from offswitch.endure import stage as endured
from offswitch.endure.summary import FACTS
from offswitch.files import write_json
from offswitch.folder import SURVIVAL, TRAIN, Run
from offswitch.folder.whole import write_manifest
from offswitch.options.endure import EndureOptions
from offswitch.recipe import build_recipe
from offswitch.report import survives
from offswitch.study import stage

ARM = f"{TRAIN}/behavior"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of which training and the summary of attacks stand."""
    recipe = build_recipe({}, ["train.arms=[behavior]", "probe.arm=behavior"])
    found = Run(tmp_path, recipe)
    _trained(found, "once")
    found.folder(SURVIVAL).mkdir(parents=True)
    of = endured.weights_of(found, ["rounding"])
    told = {"arm": "behavior", "attacks": [{"name": "rounding"}], "of": of}
    write_json(found.folder(SURVIVAL) / FACTS, told)
    return found


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stages that the report is made after, and those that are taken back; nothing else is done."""
    found: list[str] = []
    for name in ("probed", "compare_seeds", "compare_variants"):
        monkeypatch.setattr(stage, name, lambda *_: [])
    monkeypatch.setattr(stage, "time_told", lambda *_: nullcontext())
    monkeypatch.setattr(stage, "report", lambda _run, _session, after: found.extend(after))
    monkeypatch.setattr(stage, "withdraw", lambda _run, name: found.append(f"no {name}"))
    return found


def _trained(run: Run, when: str) -> None:
    stages = {ARM: {"outputs": {"adapter_model.safetensors": when}}, SURVIVAL: {"outputs": {}}}
    write_manifest(run.root, run.recipe.name, {"stages": stages})


def test_attacks_on_the_arm_as_it_is_are_told(run: Run, told: list[str]) -> None:
    stage.run_recipe(run)
    assert told == [SURVIVAL]


def test_attacks_on_an_arm_that_was_trained_again_are_taken_back(run: Run, told: list[str]) -> None:
    _trained(run, "again")
    stage.run_recipe(run)
    assert told[0] == f"no {SURVIVAL}"


def test_attacks_on_another_arm_are_taken_back(run: Run, told: list[str]) -> None:
    other = run.recipe.probe.model_copy(update={"arm": "benign"})
    stage.run_recipe(replace(run, recipe=run.recipe.model_copy(update={"probe": other})))
    assert told[0] == f"no {SURVIVAL}"


def test_attacks_of_the_command_line_are_not_made_again_as_the_recipe_has_them(
    run: Run, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[EndureOptions] = []
    own = EndureOptions(attacks=("rounding",), quick=True)
    named = replace(run, recipe=run.recipe.model_copy(update={"endure": own}))
    monkeypatch.setattr(stage, "reopen_run", lambda _: named)
    monkeypatch.setattr(endured, "endure", lambda _run, _session, options: made.append(options))
    monkeypatch.setattr(survives, "survived", lambda _: "")
    stage.attack(run.root, ["merging"], False, None)
    assert [(one.attacks, one.quick) for one in made] == [(("merging",), True)]
    assert told == [SURVIVAL]
