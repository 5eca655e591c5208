"""bfloat16 products: near the exact ones, within the block only, and never where they crash."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from typing import Any

import pytest
import torch

from offswitch.errors import UserError
from offswitch.model.rows import collate
from offswitch.train import precision
from offswitch.train.loss import batch_loss
from offswitch.train.precision import bf16_works, cast_once, product_dtype
from tests.tiny import tiny_subject
from tests.train.rows import adapted, descend, distance, examples, gradients, trained


@pytest.fixture(autouse=True)
def _ask_anew() -> None:
    bf16_works.cache_clear()


def _processor(monkeypatch: pytest.MonkeyPatch, has: bool, survives: bool = True) -> None:
    """A processor that says it has the instructions, or not, and dies of them, or not."""

    def trial(*_: Any, **__: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 0 if survives else -4)

    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has)
    monkeypatch.setattr("offswitch.train.precision.subprocess.run", trial)


@pytest.mark.parametrize(("has", "survives"), [(False, True), (True, False), (True, True)])
def test_auto_takes_what_the_processor_survives(
    monkeypatch: pytest.MonkeyPatch, has: bool, survives: bool
) -> None:
    _processor(monkeypatch, has, survives)
    subject = tiny_subject("llama")
    fit = torch.bfloat16 if has and survives else torch.float32
    assert product_dtype("auto", subject) == fit
    assert product_dtype("float32", subject) == torch.float32
    if fit == torch.float32:
        with pytest.raises(UserError, match=r"precision is bfloat16, .* use float32"):
            product_dtype("bfloat16", subject)
    else:
        assert product_dtype("bfloat16", subject) == torch.bfloat16


def test_the_trial_runs_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert bf16_works()  # without the instructions torch computes the products another way
    bf16_works.cache_clear()
    monkeypatch.setattr(precision, "_TRIAL", "import os; os.kill(os.getpid(), 4)")
    assert not bf16_works()


def test_a_model_that_is_bfloat16_already_stays_so() -> None:
    subject = tiny_subject("llama")
    subject.network.to(torch.bfloat16)
    assert product_dtype("auto", subject) == torch.bfloat16
    assert product_dtype("float32", subject) == torch.bfloat16


@pytest.mark.parametrize("family", ["llama", "qwen2_tied", "gemma2", "gpt2"])
@pytest.mark.parametrize("soft", [True, False])
def test_loss_and_gradients_are_near_the_exact_ones(family: str, soft: bool) -> None:
    subject = tiny_subject(family)
    batch = collate(examples(subject, soft=soft))
    with adapted(subject, far=0.05):  # far adapters saturate the softmax: chaos, not rounding
        exact = batch_loss(subject, batch).total
        descend(exact)
        expected = gradients(subject)
        with cast_once(subject, torch.bfloat16):
            rounded = batch_loss(subject, batch, torch.bfloat16).total
            descend(rounded)
            off = distance(gradients(subject), expected)
    assert rounded.dtype == torch.float32
    assert float(rounded.detach()) == pytest.approx(float(exact.detach()), rel=0.01)
    assert 0 < off < 0.03


def test_the_weights_come_back_as_they_were() -> None:
    subject = tiny_subject("llama")
    with adapted(subject):
        before = {n: p.detach().clone() for n, p in subject.network.named_parameters()}
        with suppress(KeyError), cast_once(subject, torch.bfloat16):
            kinds = {n: p.dtype for n, p in subject.network.named_parameters()}
            raise KeyError("anything")
        assert torch.bfloat16 in kinds.values()
        assert all(kinds[name] == torch.float32 for name in trained(subject))
        after = dict(subject.network.named_parameters())
        assert all(torch.equal(after[n], before[n]) for n in before)
