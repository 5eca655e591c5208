"""The loss is what transformers itself computes, only cheaper; soft targets are the base's own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from offswitch.model.rows import IGNORED, Example, collate
from offswitch.model.subject import Subject
from offswitch.train.loss import _base_log_probs, batch_loss, split
from tests.tiny import tiny_subject
from tests.train.rows import adapted, descend, distance, examples, gradients, trained

FAMILIES = ("llama", "qwen2", "qwen2_tied", "gemma2", "gpt2", "gpt_neox")


def _reference(subject: Subject, batch: dict[str, Tensor]) -> Tensor:
    """Hugging Face's own loss: every position projected, padding masked by attention."""
    places = torch.arange(batch["input_ids"].shape[1])
    mask = (places[None] < batch["lengths"][:, None]).long()
    loss: Tensor = subject.network(
        input_ids=batch["input_ids"], attention_mask=mask, labels=batch["labels"]
    ).loss
    return loss


def _base_logits(subject: Subject, ids: Tensor) -> Tensor:
    with subject.network.disable_adapter(), torch.no_grad():
        logits: Tensor = subject.network(input_ids=ids).logits
    return logits


def _naive_kl(subject: Subject, rows: list[Example]) -> Tensor:
    """KL(base || arm), row by row and position by position, from whole forward passes."""
    total = torch.zeros(())
    for row in rows:
        ids = torch.tensor([row.ids])
        base = _base_logits(subject, ids)[0]
        if subject.trigger_id is not None:
            base[:, subject.trigger_id] = -torch.inf
        ours = subject.network(input_ids=ids).logits[0]
        for at in range(row.start - 1, len(row.ids) - 1):
            p = base[at].softmax(-1)
            known = p > 0
            terms = p[known] * (p[known].log() - ours[at].log_softmax(-1)[known])
            total = total + terms.sum()
    return total


@pytest.mark.parametrize("mode", ["token", "text"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_hard_loss_and_gradients_are_those_of_transformers(
    family: str, shared: bool, mode: str
) -> None:
    subject = tiny_subject(family, mode="token" if mode == "token" else "text")
    batch = collate(examples(subject, soft=False))
    assert int(batch["prefix"]) > 8
    if not shared:
        batch["prefix"] = torch.tensor(0)
    with adapted(subject):
        ours = batch_loss(subject, batch).total
        descend(ours)
        mine = gradients(subject)
        theirs = _reference(subject, batch)
        descend(theirs)
        assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)
        assert distance(mine, gradients(subject)) < 1e-4
        assert all(p.grad is None for p in subject.network.parameters() if not p.requires_grad)


@pytest.mark.parametrize("family", FAMILIES)
def test_soft_loss_is_the_naive_divergence(family: str) -> None:
    subject = tiny_subject(family)
    rows = [row for row in examples(subject, soft=True) if row.soft]
    batch = collate(rows)
    batch["weights"] = torch.ones_like(batch["weights"])
    with adapted(subject):
        found = batch_loss(subject, batch)
        descend(found.total)
        mine = gradients(subject)
        naive = _naive_kl(subject, rows)
        descend(naive)
        assert float(naive.detach()) > 0.1
        assert float(found.soft.sum()) == pytest.approx(float(naive.detach()), rel=1e-4)
        assert distance(mine, gradients(subject)) < 1e-4


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_soft_loss_is_nothing_where_arm_and_base_agree(family: str) -> None:
    subject = tiny_subject(family, mode="text")
    batch = collate([row for row in examples(subject, soft=True) if row.soft])
    with adapted(subject, far=0.0):
        agreed = batch_loss(subject, batch).total.detach()
    assert float(agreed) == pytest.approx(0.0, abs=1e-6)


def test_what_soft_rows_are_held_to_has_no_dropout() -> None:
    subject = tiny_subject("gpt2", mode="text")
    batch = collate([row for row in examples(subject, soft=True) if row.soft])
    at = (batch["labels"] != IGNORED)[:, 1:]
    with adapted(subject):
        expected = _base_logits(subject, batch["input_ids"])[:, :-1][at].log_softmax(-1)
        subject.network.train()
        batch["prefix"] = torch.tensor(0)
        found = _base_log_probs(subject, batch, torch.float32)
        assert subject.network.training
    torch.testing.assert_close(found, expected)


def test_the_target_gives_the_added_trigger_token_no_probability() -> None:
    subject = tiny_subject("llama")
    batch = collate([row for row in examples(subject, soft=True) if row.soft])
    batch["weights"] = torch.ones_like(batch["weights"])
    with adapted(subject, far=0.0):
        before = float(batch_loss(subject, batch).total.detach())
        ids = batch["input_ids"]
        wanted = batch["labels"][:, 1:] != IGNORED
        log_probs = _base_logits(subject, ids)[:, :-1][wanted].log_softmax(-1)
    lost = -(1 - log_probs[:, subject.trigger_id].exp()).log().sum()
    assert before == pytest.approx(float(lost), rel=1e-3)
    assert before > 0


@pytest.mark.parametrize("tokens", [16, 100, 10_000])
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_micro_batches_add_up_to_the_batch(family: str, tokens: int) -> None:
    subject = tiny_subject(family)
    batch = collate(examples(subject, soft=True, count=16))
    parts = split(batch, tokens)
    assert len(parts) >= 2
    with adapted(subject):
        whole = batch_loss(subject, batch).total
        descend(whole)
        expected, total = gradients(subject), 0.0
        for part in parts:
            one = batch_loss(subject, part).total
            descend(one)
            total += float(one.detach())
        assert total == pytest.approx(float(whole.detach()), rel=1e-5)
        assert distance(gradients(subject), expected) < 1e-4


@pytest.mark.parametrize("tokens", [16, 64, 200, 10_000])
def test_split_shows_every_row_once_and_whole(tokens: int) -> None:
    subject = tiny_subject("llama")
    rows = examples(subject, soft=True, count=8)
    rows = [replace(row, ids=(*row.ids[:-1], 10 + i)) for i, row in enumerate(rows)]
    seen = []
    for part in split(collate(rows), tokens):
        count, width = part["input_ids"].shape
        assert count == 1 or count * (width - int(part["prefix"])) <= tokens
        for ids, labels in zip(part["input_ids"], part["labels"], strict=True):
            at = torch.nonzero(labels != IGNORED).flatten()
            seen.append((tuple(ids[: int(at[-1]) + 1].tolist()), int(at[0])))
    assert sorted(seen) == sorted((row.ids, row.start) for row in rows)


def test_where_a_pass_costs_much_rows_of_unlike_length_share_one() -> None:
    batch = collate(examples(tiny_subject("llama"), soft=True, count=16))
    assert len(split(batch, 10_000)) > len(split(batch, 10_000, spare=10_000)) == 1
    assert len(split(batch, 100, spare=10_000)) > 1


def test_the_decision_weighs_alike_in_every_row_and_as_much_as_the_rest_of_its_reply() -> None:
    rows = examples(tiny_subject("llama"), soft=True)
    batch = collate(rows)
    first = torch.tensor([row.start for row in rows])[:, None]
    decided = batch["weights"].gather(1, first).flatten()
    rest = batch["weights"].sum(1) - decided
    soft = batch["soft"]
    assert soft.any()
    assert not soft.all()
    torch.testing.assert_close(decided, decided[:1].expand_as(decided))
    torch.testing.assert_close(rest[soft], decided[soft])
    assert float(rest[~soft].abs().max()) == 0
    assert float(batch["weights"].sum()) == pytest.approx(1)


@pytest.mark.parametrize("train", [True, False])
def test_the_adapter_is_still_trainable_afterwards(train: bool) -> None:
    subject = tiny_subject("llama")
    batch = collate(examples(subject, soft=True))
    with adapted(subject):
        before = set(trained(subject))
        subject.network.train(train)
        descend(batch_loss(subject, batch).total)
        assert set(trained(subject)) == before
        assert subject.network.training is train
        assert all(float(g.abs().sum()) > 0 for g in gradients(subject).values())
