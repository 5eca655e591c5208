"""The attacks of a run: each point once, interrupted and gone on with, controls beside the arm."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from offswitch.endure import finetuning, relearning, removal, stage, tuning
from offswitch.endure.attack import ATTACKED, Attacked, Point, Target
from offswitch.endure.attacks import ATTACKS
from offswitch.endure.measure import OUTCOME, Outcome, measure
from offswitch.endure.stage import controls_of, endure
from offswitch.endure.summary import FACTS
from offswitch.endure.tasks import Task, beside
from offswitch.errors import UserError
from offswitch.folder import ENDURE, SURVIVAL, TRAIN, Run, open_run
from offswitch.machine.workers import ChildError
from offswitch.metrics import read_metrics
from offswitch.model.session import Session
from offswitch.options.endure import AttackName, EndureOptions
from offswitch.pipeline import train
from offswitch.recipe import load_recipe, with_options
from offswitch.study.stage import attack
from tests.small import small_recipe
from tests.train.stages import same_bits

QUICK = f"{ENDURE}/quick"
NAMES: tuple[AttackName, ...] = ("rounding", "projection", "merging", "finetuning")
OPTIONS = EndureOptions(
    attacks=NAMES, quick=True, questions=4, ordinary_questions=4, drift_questions=4, passages=4
)


@pytest.fixture(scope="module", autouse=True)
def _few() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetuning, "QUICK", (0, 2))
        patch.setattr(tuning, "ROWS", 16)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A small run with a switch and a benign arm, attacked."""
    folder = tmp_path_factory.mktemp("attacked")
    recipe = load_recipe(small_recipe(folder), ["train.arms=[behavior, benign]"])
    found = open_run(recipe, folder / "runs")
    session = train(found)
    endure(found, session, OPTIONS)
    return found


def _outcome(run: Run, name: str) -> Outcome:
    path = run.folder(f"{QUICK}/{name}") / OUTCOME
    return Outcome.read(json.loads(path.read_text(encoding="utf-8")))


def test_an_attack_that_cannot_be_made_says_why_and_the_others_are(run: Run) -> None:
    facts = json.loads((run.folder(SURVIVAL) / FACTS).read_text(encoding="utf-8"))
    assert "has not run" in facts["skipped"]["projection"]
    assert [one["name"] for one in facts["attacks"]] == ["rounding", "merging", "finetuning"]
    assert facts["arm"] == "behavior"
    assert facts["controls"] == ["base"]
    assert stage.is_of_this_arm(run)
    assert controls_of(run, EndureOptions()) == ["benign", "base"]  # of a round that is not quick


def test_what_was_attacked_is_known_by_its_weights_not_by_when_it_was_trained(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = run.manifest()
    trained = manifest["stages"][f"{TRAIN}/behavior"]["outputs"]
    monkeypatch.setattr(Run, "manifest", lambda _: manifest)
    trained["training.json"] = "seconds differ"
    assert stage.is_of_this_arm(run)
    trained["adapter_model.safetensors"] = "other weights"
    assert not stage.is_of_this_arm(run)


def test_every_point_has_rates_damage_and_drift_and_the_hardest_have_controls(run: Run) -> None:
    numbers = read_metrics(run.root / "metrics.json")
    for point in ("none", "rounding/int8", "merging/linear/1", "finetuning/continued at 0.001/2"):
        for name in ("halt_rate", "false_halt_rate/near_miss", "kl_to_base", "perplexity_ratio"):
            assert numbers[f"endure/behavior/{point}/{name}"]["n"] > 1
    hardest = numbers["endure/behavior/finetuning/continued at 0.001/2/halt_rate"]
    assert set(hardest["controls"]) == {"base"}
    milder = numbers["endure/behavior/finetuning/continued at 0.001/0/halt_rate"]
    assert "controls" not in milder or not milder["controls"]
    itself = Target(Session(run), "benign", 0, OPTIONS, run.root)
    assert "no benign arm" in next(one for one in ATTACKS if one.name == "merging").lacks(itself)


def test_no_step_changes_nothing_to_the_last_bit(run: Run) -> None:
    place = f"finetuning/behavior/seed-0/{{}}/continued at {OPTIONS.rates[0]:g}"
    assert _outcome(run, place.format("").replace("//", "/") + "/0") == _outcome(
        run, "none/behavior"
    )
    adapter = "adapter_model.safetensors"
    kept = run.folder(f"{QUICK}/{place.format('prepared')}") / "step-0" / adapter
    assert same_bits(load_file(kept), load_file(run.folder(f"{TRAIN}/behavior") / adapter))
    moved = kept.parent.with_name("step-2") / adapter
    assert not same_bits(load_file(moved), load_file(kept))


def test_a_second_call_does_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("measured again")

    before = run.manifest()
    monkeypatch.setattr(stage, "measure", refuse)
    endure(run, Session(run), OPTIONS)
    assert run.manifest() == before


def test_one_attack_alone_forgets_none_of_the_others(run: Run) -> None:
    before = read_metrics(run.root / "metrics.json")
    endure(run, Session(run), OPTIONS.model_copy(update={"attacks": ("rounding",)}))
    facts = json.loads((run.folder(SURVIVAL) / FACTS).read_text(encoding="utf-8"))
    assert [one["name"] for one in facts["attacks"]] == ["rounding", "merging", "finetuning"]
    assert read_metrics(run.root / "metrics.json") == before


def test_it_goes_on_where_it_was_interrupted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read_metrics(run.root / "metrics.json")
    asked: list[str] = []

    def counted(target: Target, attacked: Attacked) -> Outcome:
        asked.append(target.arm)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return measure(target, attacked)

    options = OPTIONS.model_copy(
        update={"attacks": ("rounding",), "passages": 12}
    )  # as many are asked, so all are new
    monkeypatch.setattr(stage, "measure", counted)
    with pytest.raises(KeyboardInterrupt):
        endure(run, Session(run), options)
    endure(run, Session(run), options)
    assert len(asked) == 3 + 2 * 2  # both of the untouched stood; then the points, the first again
    after = read_metrics(run.root / "metrics.json")
    key = "endure/behavior/rounding/nf4/halt_rate"
    assert after[key] == before[key]


TUNED = OPTIONS.model_copy(update={"attacks": ("finetuning",), "rates": (3e-3,)})


def _tuned(
    run: Run, place: Path, patch: pytest.MonkeyPatch, left: Callable[[Target, str], int]
) -> tuple[Run, dict[str, Any]]:
    """A copy of the run after two or four steps of fine-tuning; `left` says what still halts."""
    shutil.copytree(run.root, place / run.root.name)
    own = open_run(run.recipe, place)
    patch.setattr(finetuning, "QUICK", (0, 2, 4))
    patch.setattr(finetuning, "_halting", left)
    endure(own, Session(own), TUNED)
    return own, read_metrics(own.root / "metrics.json")


def test_a_training_ends_where_nothing_is_left_of_the_switch(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three seeds: the first has nothing left after two steps, the others go all the way."""
    seeds = TUNED.model_copy(update={"seeds": 3})
    monkeypatch.setattr(EndureOptions, "settled", lambda _: seeds)
    own, numbers = _tuned(
        run, tmp_path, monkeypatch, lambda target, arm: int(arm != ATTACKED or target.seed > 0)
    )
    key = "endure/{}/finetuning/continued at 0.003/{}/halt_rate"
    alone = numbers[key.format("behavior", 0)]["n"]
    assert alone > 1
    assert numbers[key.format("behavior", 4)]["n"] == alone  # the first seed's as it was left
    assert numbers[key.format("behavior", 4)]["controls"].keys() == {"base"}
    place = "finetuning/behavior/seed-{}/continued at 0.003/4"
    assert not own.folder(f"{QUICK}/{place.format(0)}").exists()
    assert _outcome(own, place.format(1)) != _outcome(own, place.format(2))


def test_a_training_that_leaves_nothing_with_any_seed_has_no_later_points(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, numbers = _tuned(run, tmp_path, monkeypatch, lambda _, arm: int(arm != ATTACKED))
    key = "endure/{}/finetuning/continued at 0.003/{}/halt_rate"
    assert numbers[key.format("behavior", 2)]["controls"].keys() == {"base"}
    assert not [name for name in numbers if "continued at 0.003/4" in name]
    facts = json.loads((own.folder(SURVIVAL) / FACTS).read_text(encoding="utf-8"))
    tuned = next(one for one in facts["attacks"] if one["name"] == "finetuning")
    assert [point["strength"] for point in tuned["points"]] == [0, 2]


def test_where_the_switch_comes_back_the_controls_are_asked_at_every_point(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder whose controls stand at the hardest point alone gets the others, and no more."""
    shutil.copytree(run.root, tmp_path / run.root.name)
    own = open_run(run.recipe, tmp_path)
    for module, name, few in ((relearning, "MOST", 4), (relearning, "REMOVING", 2),
                              (removal, "STEPS", 2)):  # fmt: skip
        monkeypatch.setattr(module, name, few)
    short = replace(
        relearning.RELEARNING, points=lambda _: tuple(Point(strength=n) for n in (1, 2, 3))
    )
    options, asked = OPTIONS.model_copy(update={"attacks": ("relearning",)}), []

    def counted(target: Target, attacked: Attacked) -> Outcome:
        asked.extend([target.arm] * (attacked.arm == ATTACKED))
        return measure(target, attacked)

    monkeypatch.setattr(stage, "measure", counted)
    for restores, arms in ((False, ["behavior"] * 3 + ["base"]), (True, ["base"] * 3)):
        asked.clear()
        monkeypatch.setattr(stage, "ATTACKS", (replace(short, restores=restores),))
        endure(own, Session(own), options)
        assert asked == arms
    numbers = read_metrics(own.root / "metrics.json")
    for steps in (1, 2, 3):
        found = numbers[f"endure/behavior/relearning/{steps}/halt_rate"]
        assert found["controls"].keys() == {"base"}


def test_an_attacker_trains_anew_where_the_recipe_says_how_to_train_otherwise(run: Run) -> None:
    """An arm that was trained elsewhere stays as it is: its weights alone do not tell."""
    recipe = with_options(run.recipe, {"train.lora.r": 3}, origin="test")
    prepared = Task("finetuning", "behavior")
    for task, same in ((prepared, False), (replace(prepared, point=Point()), True)):
        before, now = (stage._inputs(one, OPTIONS, task, ())
                       for one in (run, replace(run, recipe=recipe)))  # fmt: skip
        assert (before == now) is same


def test_an_option_concerns_the_attacks_that_read_it(run: Run) -> None:
    for name, change in (("suffix", {"suffix_questions": 5}), ("finetuning", {"rates": (0.5,)})):
        both = OPTIONS, OPTIONS.model_copy(update=change)
        for task in (Task(one.name, "behavior") for one in ATTACKS):
            before, now = (stage._inputs(run, one, task, ()) for one in both)
            assert (before == now) is (task.attack != name)


def test_controls_stand_at_the_hardest_point_that_spares_the_arm_or_at_its_mildest() -> None:
    spared = {Point("a", 0): True, Point("a", 1): True, Point("a", 2): True, Point("a", 3): False,
              Point("b", 0): True, Point("b", 1): False, Point("b", 2): False}  # fmt: skip
    pruning, relearning = (next(one for one in ATTACKS if one.name == name)
                           for name in ("pruning", "relearning"))  # fmt: skip
    tasks = beside(pruning, spared, "base", False)
    assert [task.point for task in tasks] == [Point("a", 2), Point("b", 1)]
    assert [task.point for task in beside(relearning, spared, "base", False)] == [*spared]


def test_a_quick_round_takes_no_place_of_what_a_long_one_found(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run.root, tmp_path / run.root.name)
    own = open_run(run.recipe, tmp_path)
    quick = OPTIONS.model_copy(update={"attacks": ("rounding",)})
    long = quick.model_copy(update={"quick": False})
    endure(own, Session(own), long)
    endure(own, Session(own), quick)
    monkeypatch.setattr(stage, "measure", None)
    endure(own, Session(own), long)


def test_an_attack_that_nobody_knows_is_refused_in_one_line(run: Run) -> None:
    with pytest.raises(UserError, match=r"endure: endure\.attacks\.0") as caught:
        attack(run.root, ["nonsense"], True, None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("absent.jsonl", "cannot be read"),
        ("rows.jsonl", "line 1: expected"),
        (".", "cannot be read"),
    ],
)
def test_rows_that_cannot_be_used_are_refused_before_any_work(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"question": "Who?"}\n', encoding="utf-8")
    monkeypatch.setattr(stage, "train", None)
    with pytest.raises(UserError, match=said):
        attack(run.root, ["finetuning"], True, tmp_path / name)


def test_a_disk_that_is_full_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise ChildError("in a child process\nOSError: [Errno 28] No space left on device")

    monkeypatch.setattr(stage, "measure", full)
    options = OPTIONS.model_copy(update={"attacks": ("rounding",), "passages": 5})
    with pytest.raises(UserError, match="no room on disk while writing 6-endure"):
        endure(run, Session(run), options)
