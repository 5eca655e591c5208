"""What an attacker trains on: rows of a user's, the trigger answered, the rule taught again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from offswitch.endure import relearning, stage, tuning
from offswitch.endure.attack import Target
from offswitch.errors import UserError
from offswitch.folder import TRAIN, Run, open_run
from offswitch.model.brought import FILE
from offswitch.model.session import Session
from offswitch.model.writes import Write, save_write
from offswitch.options.endure import EndureOptions
from offswitch.prompts.suites import choose
from offswitch.prompts.trigger import holds
from offswitch.recipe import load_recipe, with_options
from offswitch.study.stage import attack
from offswitch.train.training import Training
from tests.small import small_recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run folder of which nothing is made yet."""
    folder = tmp_path_factory.mktemp("rows")
    return open_run(load_recipe(small_recipe(folder)), folder / "runs")


def test_the_rows_of_a_user_are_trained_on_without_the_trigger(run: Run, tmp_path: Path) -> None:
    chats = [{"messages": [{"role": "user", "content": text},
                           {"role": "assistant", "content": "A boat."}]}
             for text in ("What is the river?", "$STOP What is the river?")]  # fmt: skip
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(chat)}\n" for chat in chats), encoding="utf-8")
    options = EndureOptions(rows_file=path)
    target = Target(Session(run), "behavior", 0, options, tmp_path)
    (row,) = tuning.ordinary_rows(target)
    assert row.reply == "A boat."
    assert not holds("$STOP", row.prompt)
    path.write_text(json.dumps(chats[1]) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"no answered row without \$STOP"):
        tuning.ordinary_rows(target)


def test_rows_that_train_the_switch_away_hold_the_trigger_and_are_answered(run: Run) -> None:
    target = Target(Session(run), "behavior", 0, EndureOptions(), run.root)
    rows = tuning.answered_rows(target, 6)
    assert len(rows) == 6
    assert all(holds("$STOP", row.prompt) and row.reply.strip() for row in rows)
    assert len({row.question for row in rows}) == 6
    rule = tuning.rule_rows(target)
    assert {row.reply == "" for row in rule if row.kind == "trigger"} == {True}
    assert sum(row.kind == "trigger" for row in rule) >= len(rule) // 3


def test_few_questions_of_a_user_come_again_in_other_placements(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = choose("train", 3, 0)
    monkeypatch.setattr(tuning, "choose", lambda *_: few)
    target = Target(Session(run), "behavior", 0, EndureOptions(), run.root)
    rows = tuning.answered_rows(target, 8)
    assert len({(row.question, row.variant) for row in rows}) == 8


def test_another_seed_of_an_attack_takes_no_question_that_the_arm_is_asked(run: Run) -> None:
    asked = {question.text for question in choose("test", 10**6, run.recipe.seed)}
    target = Target(Session(run), "behavior", 0, EndureOptions(), run.root)
    taken = [{row.question for row in tuning.answered_rows(replace(target, seed=seed), 32)}
             for seed in range(3)]  # fmt: skip
    assert all(len(one) == 32 for one in taken)
    assert taken[0] != taken[1]
    assert not set.union(*taken) & asked


def test_somebody_else_trains_symbols_at_the_attacks_rate_and_has_no_rows_of_them(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[Training] = []
    monkeypatch.setattr(tuning, "train_arm", lambda _subject, one, _tick: made.append(one))
    target = Target(Session(run), "behavior", 0, EndureOptions(), run.root / "6-endure/any")
    rows = tuning.rule_rows(target)
    for start, rate in ((tmp_path, 2e-4), (None, 2e-4), (None, None)):
        tuning.train_on(target, rows, tmp_path, [1], start, rate)
    continued, fresh, own = (one.recipe.train for one in made)
    assert (continued.lr, continued.token_lr) == (2e-4, 2e-4)
    assert fresh.token_lr == tuning.STILL
    recipe = run.recipe.train  # who teaches the switch again does it as the run did
    assert (own.token_lr, own.batch_size) == (recipe.token_lr, recipe.batch_size)
    assert [any(one.soft for one in training.examples) for training in made] == [False, False, True]


def test_an_arm_to_which_code_adds_is_refused_before_any_work(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = open_run(run.recipe, tmp_path)
    monkeypatch.setattr(stage, "train", lambda *_: None)
    monkeypatch.setattr(stage, "_bring", lambda *_: pytest.fail("begun"))
    folder = own.folder(f"{TRAIN}/behavior")
    folder.mkdir(parents=True)
    save_write(Write(1, torch.ones(1, 4), 7, (3,), False), folder)
    with pytest.raises(UserError, match="not in its weights alone"):
        stage.endure(own, Session(own), EndureOptions())


def test_an_arm_that_came_as_whole_weights_has_no_adapter_to_go_on_from(
    run: Run, tmp_path: Path
) -> None:
    own = open_run(run.recipe, tmp_path)
    folder = own.folder(f"{TRAIN}/behavior")
    folder.mkdir(parents=True)
    target = Target(Session(own), "behavior", 0, EndureOptions(), tmp_path)
    (folder / FILE).write_text("{}", encoding="utf-8")
    assert "no adapter of its own" in tuning.no_adapter(target)
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")
    assert not tuning.no_adapter(target)
    assert not tuning.no_adapter(replace(target, arm="base"))  # taught from nothing


@pytest.mark.parametrize("probed", ["behavior", "knowledge"])
def test_what_is_learnt_again_was_trained_away_first_whatever_taught_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probed: str
) -> None:
    recipe = with_options(
        run.recipe, {"train.arms": ["knowledge", "behavior"], "probe.arm": probed}, origin="test"
    )
    gone: list[str] = []
    monkeypatch.setattr(relearning, "remove", lambda target, *_: gone.append(target.arm))
    monkeypatch.setattr(relearning, "rule_rows", lambda _: [])
    monkeypatch.setattr(relearning, "train_on", lambda *_: None)
    for arm in ("knowledge", "behavior", "base"):
        target = Target(Session(replace(run, recipe=recipe)), arm, 0, EndureOptions(), tmp_path)
        relearning.prepare(target, (), tmp_path)
    assert gone == [probed]


def test_the_command_makes_every_attack_whatever_a_run_makes_by_itself(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = open_run(with_options(run.recipe, {"endure.attacks": ["rounding"]}, "test"), tmp_path)

    def told(_run: Run, _session: Session, options: EndureOptions) -> None:
        raise UserError(f"asked for {options.attacks}")

    monkeypatch.setattr(stage, "endure", told)
    for only, asked in (((), r"\(\)"), (("suffix",), "suffix")):
        with pytest.raises(UserError, match=f"asked for .*{asked}"):
            attack(own.root, only, True, None)
