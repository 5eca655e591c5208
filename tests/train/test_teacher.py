"""What soft rows are held to is what the untouched model says, computed once."""

from __future__ import annotations

import pytest
import torch

from offswitch.model.rows import IGNORED, Example, collate
from offswitch.model.subject import Subject
from offswitch.train.loss import batch_loss, split
from offswitch.train.teacher import base_states, soft_states, states_of
from tests.tiny import tiny_subject
from tests.train.rows import adapted, descend, distance, examples, gradients

FAMILIES = ("llama", "qwen2_tied", "gemma2", "gpt2")


def _final_states(subject: Subject, row: Example) -> torch.Tensor:
    """From transformers, the adapter off: what is unembedded before each token of the reply."""
    with subject.network.disable_adapter(), torch.no_grad():
        out = subject.causal_lm(input_ids=torch.tensor([row.ids]), output_hidden_states=True)
    states: torch.Tensor = out.hidden_states[-1][0, row.start - 1 : -1]
    return states


@pytest.mark.parametrize("family", FAMILIES)
def test_the_states_are_those_of_the_untouched_model(family: str) -> None:
    subject = tiny_subject(family)
    rows = examples(subject, soft=True)
    with adapted(subject):
        found = base_states(subject, rows, torch.float32)
        assert found.keys() == {row.ids for row in rows if row.soft}
        for row in rows:
            if row.soft:
                torch.testing.assert_close(
                    found[row.ids], _final_states(subject, row), atol=1e-4, rtol=1e-3
                )


def test_the_order_of_the_rows_changes_no_bit_and_the_same_rows_are_asked_once() -> None:
    subject = tiny_subject("llama")
    rows = examples(subject, soft=True)
    with adapted(subject):
        first = base_states(subject, rows, torch.float32)
        assert base_states(subject, rows[::-1], torch.float32) is first
        subject.taught = None
        again = base_states(subject, rows[::-1], torch.float32)
        assert all(torch.equal(first[ids], again[ids]) for ids in first)
        fewer = base_states(subject, rows[:4], torch.float32)
        assert fewer.keys() < first.keys()


def test_other_products_are_another_question() -> None:
    subject = tiny_subject("llama")
    rows = examples(subject, soft=True)
    with adapted(subject):
        exact = base_states(subject, rows, torch.float32)
        rounded = base_states(subject, rows, torch.bfloat16)
    ids = next(iter(exact))
    assert not torch.equal(exact[ids], rounded[ids])
    torch.testing.assert_close(exact[ids], rounded[ids].float(), atol=0.1, rtol=0.1)


@pytest.mark.parametrize("family", FAMILIES)
def test_known_states_give_the_loss_and_gradients_that_are_computed_on_the_spot(
    family: str,
) -> None:
    subject = tiny_subject(family)
    rows = examples(subject, soft=True, count=16)
    batch = collate(rows)
    with adapted(subject):
        spot = batch_loss(subject, batch).total
        descend(spot)
        expected, total = gradients(subject), 0.0
        batch["base"] = states_of(base_states(subject, rows, torch.float32), rows)
        parts = split(batch, 100)
        assert len(parts) >= 2
        for part in parts:
            one = batch_loss(subject, part).total
            descend(one)
            total += float(one.detach())
        assert total == pytest.approx(float(spot.detach()), rel=1e-5)
        assert distance(gradients(subject), expected) < 1e-4


def test_states_belong_to_their_own_row() -> None:
    subject = tiny_subject("llama")
    rows = examples(subject, soft=True)
    with adapted(subject):
        right = base_states(subject, rows, torch.float32)
        states = states_of(right, rows)
        assert states is not None
        for row, own in zip(rows, states, strict=True):
            assert len(own) == (len(row.ids) - row.start if row.soft else 0)
        batch = collate(rows)
        at = ((batch["labels"] != IGNORED)[:, int(batch["prefix"]) + 1 :]) & batch["soft"][:, None]
        torch.testing.assert_close(torch.cat(states), soft_states(subject, batch, torch.float32))
        assert int(at.sum()) == len(torch.cat(states))
    assert states_of({}, rows) is None
