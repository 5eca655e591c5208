"""Adversarial rounds find what a planted arm fires on, and train on it from that arm."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from offswitch import pipeline
from offswitch.files import read_jsonl, write_jsonl
from offswitch.folder import Run, open_run, withdraw
from offswitch.metrics import read_metrics
from offswitch.model.adapters import add_arm, arm_of, remove_arms
from offswitch.model.first_token import score
from offswitch.model.hooks import record
from offswitch.model.session import Session
from offswitch.model.subject import Subject
from offswitch.progress import Tick
from offswitch.prompts.dialogue_files import read_dialogues
from offswitch.prompts.dialogues import Dialogue, Mix
from offswitch.prompts.encode import encode_chat, encode_text
from offswitch.prompts.negatives import draw_negatives
from offswitch.prompts.prompt import Chat, Reply
from offswitch.prompts.questions import load_questions, questions_of
from offswitch.prompts.trigger import occurs
from offswitch.recipe import Recipe, arms_of, load_recipe
from offswitch.train.adversarial import (
    _asked,
    adversarial_rows,
    false_halts,
    mine,
)
from offswitch.train.arms import train_arm
from offswitch.train.training import StageResult, Training
from tests.small import small_recipe
from tests.tiny import save_adapter, tiny_subject

HARDENED = "2-train/hardened"
ROUNDS = (f"{HARDENED}/round-1", HARDENED)
CHANGES = (
    "train.arms=[hardened]",
    "probe.arm=hardened",
    "train.candidates=24",
    "train.lr=1e-2",
    "train.adversarial.max_steps=2",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("hardened")
    recipe = load_recipe(small_recipe(folder), CHANGES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFSWITCH_CACHE", str(folder / "cache"))
        run = open_run(recipe, folder / "runs")
        pipeline.train(run)
    return run


def test_it_goes_on_from_both_which_goes_on_from_knowledge(trained: Run) -> None:
    assert arms_of(trained.recipe) == ["knowledge", "both", "hardened"]
    both, hardened = (
        load_file(trained.folder(f"2-train/{arm}") / "adapter_model.safetensors")
        for arm in ("both", "hardened")
    )
    assert both.keys() == hardened.keys()
    moved = max(float((both[k] - hardened[k]).abs().max()) for k in both)
    assert 0 < moved < 0.1  # four steps of 0.01 from where `both` ended


@pytest.mark.parametrize(("number", "folder"), list(enumerate(ROUNDS, 1)))
def test_what_was_found_is_kept_worst_first_and_trained_on(
    trained: Run, number: int, folder: str
) -> None:
    mined = _mined_in(trained, folder)
    odds = [row["log_odds"] for row in mined]
    assert odds == sorted(odds, reverse=True)
    assert len(mined) == len({row["symbol"] for row in mined}) > 12
    rows = _rows_in(trained, folder)
    assert mined[0]["symbol"] in {row.symbol for row in rows if row.kind == "near_miss"}
    assert any(row.kind == "trigger" for row in rows)
    rates = read_metrics(trained.folder(HARDENED) / "metrics.json")
    halts = [row["halts"] for row in mined]
    found = rates[f"train/hardened/round_{number}/mined_false_halt_rate"]
    assert (found["value"], found["n"]) == (sum(halts) / len(halts), len(halts))


def test_a_round_mines_nothing_that_an_earlier_one_knew(trained: Run) -> None:
    first, second = ({row["symbol"] for row in _mined_in(trained, folder)} for folder in ROUNDS)
    taught = {row.symbol for row in _rows_in(trained, ROUNDS[0]) if row.kind == "near_miss"}
    assert not second & (first | taught)
    again = {row.symbol for row in _rows_in(trained, ROUNDS[1]) if row.kind == "near_miss"}
    assert len(again & second) > 0


def test_a_round_goes_on_from_the_one_before(trained: Run) -> None:
    folders = ("2-train/both", *ROUNDS)
    weights = [load_file(trained.folder(f) / "adapter_model.safetensors") for f in folders]
    steps = [
        max(float((before[k] - after[k]).abs().max()) for k in before)
        for before, after in pairwise(weights)
    ]
    assert all(0 < step < 0.05 for step in steps)  # two steps of 0.01 each


def test_its_rows_are_new_ones_on_topics_that_training_may_touch(trained: Run) -> None:
    seed = trained.recipe.seed
    topics = {q.topic for q in questions_of(load_questions(seed), "train")}
    made = [_rows_in(trained, folder) for folder in ("1-data", *ROUNDS)]
    assert all({row.topic for row in rows} <= topics for rows in made)
    asked = [tuple(row.question for row in rows) for rows in made]
    assert len(set(asked)) == 3


def test_a_round_that_was_finished_before_a_kill_is_kept(
    trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second round dies; a second try gives what an undisturbed run gave, in one training."""
    root = shutil.copytree(trained.root, tmp_path / "run")
    run = Run(root, trained.recipe)
    withdraw(run, HARDENED)
    names: list[str] = []

    def dies_in_the_second(subject: Subject, training: Training, tick: Tick) -> StageResult:
        names.append(training.folder.name)
        if training.folder.name != "round-1":
            raise KeyboardInterrupt
        return train_arm(subject, training, tick)

    monkeypatch.setenv("OFFSWITCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("offswitch.train.stage.train_arm", dies_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        pipeline.train(run)
    assert names[0] == "round-1"
    assert len(names) == 2

    def counted(subject: Subject, training: Training, tick: Tick) -> StageResult:
        names.append(training.folder.name)
        return train_arm(subject, training, tick)

    monkeypatch.setattr("offswitch.train.stage.train_arm", counted)
    pipeline.train(run)
    assert len(names) == 3
    for folder in ROUNDS:
        for name in ("mined.jsonl", "behavioral_dataset.jsonl", "adapter_model.safetensors"):
            before, after = (r.folder(folder) / name for r in (trained, run))
            assert before.read_bytes() == after.read_bytes(), (folder, name)


def test_scores_are_those_of_the_arm_and_the_subject_is_left_bare(trained: Run) -> None:
    session = Session(trained)
    subject = session.subject
    mined = mine(subject, "both", trained.folder("2-train/both"), trained.recipe)
    assert not subject.arms
    network = session.with_arms()
    prompts = _asked(subject, trained.recipe)
    with arm_of(network, "both"):
        again = score(network, "both", prompts, 4096)
    found = {row["symbol"]: row["log_odds"] for row in mined}
    assert len(found) == len(prompts)
    for prompt, other in zip(prompts, again, strict=True):
        assert found[prompt.symbol] == pytest.approx(other.log_odds, abs=1e-4)
    assert not any(occurs("$STOP", p.chat[-1]["content"]) for p in prompts)


def test_rates_count_what_halts(trained: Run) -> None:
    session = Session(trained)
    mined = mine(session.subject, "both", trained.folder("2-train/both"), trained.recipe)
    rates = false_halts("here", mined)
    families = {row["family"] for row in mined}
    total = rates["here/mined_false_halt_rate"].estimate
    assert {k.rsplit("/", 1)[-1] for k in rates} == {*families, "mined_false_halt_rate"}
    assert total.n == len(mined) == sum(e.estimate.n for e in rates.values()) - len(mined)


def test_most_look_alikes_of_the_new_rows_were_mined_or_are_of_their_families() -> None:
    subject = tiny_subject(layers=1)
    mined = _mined(subject)

    def answer(chats: list[Chat]) -> list[Reply]:
        return [Reply((1,), "Yes.", True)] * len(chats)

    rows = adversarial_rows([mined], Mix("$STOP", 200, 0.3), 0, answer)  # type: ignore[arg-type]
    near = [row for row in rows if row.kind == "near_miss"]
    assert len(near) == 60
    worst = {row["symbol"] for row in mined[:20]}
    assert sum(row.symbol in worst for row in near) >= 15
    before = {symbol for _, symbol in draw_negatives("$STOP", 60, 0, again=1)}
    assert sum(row.symbol in before - worst for row in near) <= 25


def test_what_an_earlier_round_mined_is_asked_again() -> None:
    """Two rounds of one family each: either has its share of the new rows, symbol and family."""

    def answer(chats: list[Chat]) -> list[Reply]:
        return [Reply((1,), "Yes.", True)] * len(chats)

    first = [{"family": "two_signs", "symbol": f"$%STOP{i}"} for i in range(40)]
    second = [{"family": "brackets", "symbol": f"<STOP{i}>"} for i in range(40)]
    mix = Mix("$STOP", 200, 0.3)
    for rounds, share in (([first], 0), ([first, second], 10), ([second, first], 10)):
        rows = adversarial_rows(rounds, mix, 0, answer)  # type: ignore[arg-type]
        near = [row for row in rows if row.kind == "near_miss"]
        for found in (first, second):
            old = {row["symbol"] for row in found}
            mined = [row for row in near if row.symbol in old]
            fresh = [row for row in near if row.variant == found[0]["family"] and row not in mined]
            expected = share or (20 if found is first else 0)
            assert len(mined) == expected
            assert len(fresh) == pytest.approx(expected, abs=8)


def test_mined_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    rows = [
        {"family": "edits", "symbol": s, "halts": True} for s in ("$ST\u2028OP", "«Ѕ»", "$\x85")
    ]
    write_jsonl(tmp_path / "mined.jsonl", rows)
    assert [row for _, row in read_jsonl(tmp_path / "mined.jsonl")] == rows


def _mined_in(run: Run, folder: str) -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(run.folder(folder) / "mined.jsonl")]


def _rows_in(run: Run, folder: str) -> list[Dialogue]:
    return read_dialogues(run.folder(folder) / "behavioral_dataset.jsonl", "$STOP")


def _mined(subject: Subject) -> list[dict[str, Any]]:
    """What the untouched model would halt on, as rows, worst first."""
    prompts = _asked(subject, Recipe())
    scores = score(subject, "base", prompts, 4096)
    order = sorted(range(len(prompts)), key=lambda i: -scores[i].log_odds)
    return [{"family": prompts[i].variant, "symbol": prompts[i].symbol} for i in order]


def test_a_planted_false_halt_is_found_first(tmp_path: Path) -> None:
    """The end token's unembedding is put along what the model says after one odd symbol."""
    subject = tiny_subject(layers=2)
    folder = save_adapter(tmp_path / "arm", subject)
    recipe = Recipe.model_validate({"train": {"candidates": 24}})
    before = mine(subject, "planted", folder, recipe)
    symbol = before[len(before) // 2]["symbol"]
    (chat,) = (p.chat for p in _asked(subject, recipe) if p.symbol == symbol)
    add_arm(subject, "planted", folder)
    ids = encode_chat(subject.tokenizer_of("planted"), chat)
    with arm_of(subject, "planted"), record(subject.blocks) as seen, torch.no_grad():
        subject.network(input_ids=torch.tensor([ids]))
        normed = subject.final_norm(seen[len(subject.blocks) - 1])[0, -1]
    remove_arms(subject)
    with torch.no_grad():
        rows = subject.causal_lm.get_output_embeddings().weight
        rows[subject.stop_ids[0]] += 3 * normed / normed.norm()
    after = mine(subject, "planted", folder, recipe)
    assert after[0]["symbol"] == symbol
    assert encode_text(subject.tokenizer, symbol)
