"""bfloat16 products: near the exact ones, within the block only, and never where they crash."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import torch

from offswitch.errors import UserError
from offswitch.machine.cells import Type
from offswitch.model.rows import collate
from offswitch.progress import nothing
from offswitch.train import precision
from offswitch.train.arms import train_arm
from offswitch.train.loss import batch_loss
from offswitch.train.precision import bf16_works, cast_once, product_dtype
from offswitch.train.training import Training
from tests.tiny import tiny_subject
from tests.train.rows import adapted, descend, distance, examples, gradients, trained
from tests.train.stages import recipe_of


@pytest.fixture(autouse=True)
def _ask_again() -> None:
    bf16_works.cache_clear()


def test_bfloat16_is_refused_where_a_process_does_not_survive_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = tiny_subject("llama")
    assert product_dtype("bfloat16", subject) == torch.bfloat16
    bf16_works.cache_clear()
    monkeypatch.setattr(precision, "_TRIAL", "import os; os.kill(os.getpid(), 4)")
    assert product_dtype("float32", subject) == torch.float32
    with pytest.raises(UserError, match=r"precision is bfloat16, .* use float32"):
        product_dtype("bfloat16", subject)


def test_products_that_are_wrong_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = precision._TRIAL.replace("a.bfloat16() @", "2 * a.bfloat16() @")
    assert wrong != precision._TRIAL
    monkeypatch.setattr(precision, "_TRIAL", wrong)
    assert not bf16_works()


@pytest.mark.parametrize("auto", ["float32", "bfloat16"])
def test_auto_is_what_the_machine_was_found_to_do_best(tmp_path: Path, auto: Type) -> None:
    subject = tiny_subject("llama")
    recipe = recipe_of(precision="auto", behavior={"max_steps": 1})
    rows = examples(subject, soft=False)
    training = Training("behavior", rows, recipe, tmp_path / "a", tmp_path / "s", auto=auto)
    assert train_arm(subject, training, nothing).precision == auto


def test_a_model_that_is_bfloat16_already_stays_so() -> None:
    subject = tiny_subject("llama")
    subject.network.to(torch.bfloat16)
    assert product_dtype("bfloat16", subject) == torch.bfloat16
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
