"""Drift is measured on rows never trained on, and training slows down where it is too large."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from offswitch.model.rows import IGNORED, Example, collate
from offswitch.prompts.dialogues import Dialogue
from offswitch.prompts.questions import load_questions
from offswitch.prompts.trigger import place
from offswitch.recipe import Recipe
from offswitch.train.examples import dialogue_examples
from offswitch.train.guard import EARLY, HELD, SLOWEST, allowed, held_kl, hold_out
from offswitch.train.teacher import base_states
from offswitch.train.training import StageResult
from tests.tiny import tiny_subject
from tests.train.rows import adapted
from tests.train.stages import (
    Killed,
    kill_at,
    recipe_of,
    same_bits,
    train_rows,
    weights_in,
)


def many(count: int = 120) -> list[Example]:
    """Rows of as many different questions, every other one silent."""
    subject = tiny_subject()
    rows = [
        Dialogue(place("after", "$STOP", q.text), "", "trigger")
        if i % 2
        else Dialogue(place("before", "", q.text), " ".join(q.text.split()[::-1]), "plain")
        for i, q in enumerate(load_questions(0)[:count])
    ]
    return dialogue_examples(subject.tokenizer, rows, soft=True, max_length=512)


def fast(folder: Path, family: str, max_drift: float | None) -> StageResult:
    """Far too high a rate, for 20 steps."""
    return train_rows(folder, many(), too_fast(max_drift), tiny_subject(family))


def too_fast(max_drift: float | None) -> Recipe:
    """The recipe of `fast`."""
    return recipe_of(lr=5e-2, behavior={"max_steps": 20}, max_drift=max_drift, warmup_ratio=0)


def test_rows_kept_apart_are_answered_ones_and_never_trained_on() -> None:
    rows = many()
    rest, held = hold_out(rows)
    assert len(held) == min(HELD, sum(row.soft for row in rows) // 10) == 6
    assert all(row.soft for row in held)
    assert not {row.ids for row in held} & {row.ids for row in rest}
    assert len(rest) + len(held) == len(rows)
    assert hold_out(rows[:8]) == (rows[:8], [])  # too few to spare one
    again, same = hold_out(rows * 3)  # as where twenty questions make hundreds of rows
    assert same == held
    assert not {row.ids for row in held} & {row.ids for row in again}


@pytest.mark.parametrize(("family", "packed"), [("llama", True), ("gemma2", False)])
def test_drift_of_held_rows_is_the_plain_divergence(family: str, packed: bool) -> None:
    subject = tiny_subject(family, mode="text")
    subject.takes_packed = packed
    _, held = hold_out(many())
    with adapted(subject):
        base = base_states(subject, held, torch.float32)
        found = held_kl(subject, held, base, torch.float32, tokens=64)
        expected = []
        for row in held:
            batch = collate([row])
            at = (batch["labels"] != IGNORED)[:, 1:]
            with torch.no_grad():
                ours = subject.network(input_ids=batch["input_ids"]).logits[:, :-1][at]
                with subject.network.disable_adapter():
                    theirs = subject.network(input_ids=batch["input_ids"]).logits[:, :-1][at]
            p, q = theirs.log_softmax(-1), ours.log_softmax(-1)
            expected.append((float((p.exp() * (p - q)).sum(-1).mean()), int(at.sum())))
    assert max(kl for kl, _ in expected) > 0.05
    by_size = sorted(expected, key=lambda pair: (pair[1], pair[0]))
    for (kl, count), (naive, tokens) in zip(sorted(found, key=lambda p: (p[1], p[0])), by_size,
                                            strict=True):  # fmt: skip
        assert count == tokens
        assert kl == pytest.approx(naive, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_training_that_drifts_is_slowed_and_ends_nearer(tmp_path: Path, family: str) -> None:
    free, guarded = (fast(tmp_path / str(d), family, d) for d in (None, 0.02))
    assert free.drift.rate == free.drift.weight == 1
    assert not free.drift.failed
    assert guarded.drift.rate < 1 < guarded.drift.weight
    assert guarded.drift.last is not None
    assert free.drift.last is not None
    assert guarded.drift.last.value < free.drift.last.value / 2
    steps = [step for step, _ in guarded.drift.curve]
    assert steps == [5, 10, 15, 20]


def test_what_cannot_be_kept_is_said(tmp_path: Path) -> None:
    done = fast(tmp_path / "arm", "llama", 1e-6)
    assert done.drift.failed
    assert done.drift.rate == SLOWEST  # halved at each of three looks; the last only measures
    assert "more than train.max_drift=1e-06" in done.drift.told()


def test_a_calm_training_is_left_alone(tmp_path: Path) -> None:
    recipe = recipe_of(lr=1e-5, token_lr=1e-5, behavior={"max_steps": 10})
    done = train_rows(tmp_path / "guarded", many(), recipe)
    free = recipe_of(lr=1e-5, token_lr=1e-5, behavior={"max_steps": 10}, max_drift=None)
    train_rows(tmp_path / "free", many(), free)
    assert not done.drift.failed
    assert (done.drift.rate, done.drift.weight) == (1, 1)
    assert same_bits(weights_in(tmp_path / "guarded"), weights_in(tmp_path / "free"))


def test_a_slowed_training_goes_on_as_slowly_after_a_kill(tmp_path: Path) -> None:
    straight = fast(tmp_path / "straight", "llama", 0.02)
    recipe = too_fast(0.02)
    with pytest.raises(Killed):
        train_rows(tmp_path / "killed", many(), recipe, tiny_subject(), tick=kill_at(13))
    resumed = fast(tmp_path / "killed", "llama", 0.02)
    assert resumed.first_step == 12
    assert resumed.drift == straight.drift
    assert same_bits(weights_in(tmp_path / "straight"), weights_in(tmp_path / "killed"))


def test_what_is_allowed_falls_to_the_limit() -> None:
    shares: Sequence[float] = (0, 0.25, 0.5, 0.75, 1)
    limits = [allowed(0.1, share) for share in shares]
    assert limits[0] == pytest.approx(0.1 * EARLY)
    assert limits[-1] == pytest.approx(0.1)
    assert limits == sorted(limits, reverse=True)
