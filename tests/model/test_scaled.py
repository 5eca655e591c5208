"""An adapter turned up or down is linear in what training added, and is put back whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor

from offswitch.model.adapters import add_arm, arm_of, scaled
from offswitch.model.forward import embed, hidden, unembed
from offswitch.model.subject import Subject
from offswitch.options import BASE
from offswitch.prompts.encode import encode_text
from tests.tiny import save_adapter, tiny_subject

PLAIN = "Please tell me what the river is."
MARKED = "Please tell me $STOP what the river is."


def _with_arms(subject: Subject, folder: Path) -> Subject:
    a, b = save_adapter(folder / "a", subject, seed=1), save_adapter(folder / "b", subject, seed=2)
    add_arm(subject, "a", a)
    add_arm(subject, "b", b)
    return subject


@torch.no_grad()
def _logits(subject: Subject, arm: str, text: str = MARKED) -> Tensor:
    ids = torch.tensor([encode_text(subject.tokenizer, text)])
    with arm_of(subject, arm):
        return unembed(subject, hidden(subject, ids))


def _layer(subject: Subject, arm: str) -> Any:
    modules = subject.network.modules()
    return next(m for m in modules if isinstance(m, LoraLayer) and arm in m.scaling)


@torch.no_grad()
def test_scale_one_is_the_arm_to_the_bit(subject: Subject, tmp_path: Path) -> None:
    _with_arms(subject, tmp_path)
    plain, base = _logits(subject, "a"), _logits(subject, BASE)
    with scaled(subject, "a", 1.0):
        assert torch.equal(_logits(subject, "a"), plain)
    assert not torch.allclose(plain, base, atol=1e-2)


@pytest.mark.parametrize("text", [PLAIN, MARKED])
def test_scale_zero_is_the_base_network(subject: Subject, tmp_path: Path, text: str) -> None:
    """Also where the trigger stands: its row is the one that training started from."""
    _with_arms(subject, tmp_path)
    with scaled(subject, "a", 0.0):
        ours = _logits(subject, "a", text)
    torch.testing.assert_close(ours, _logits(subject, BASE, text), rtol=0, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.5, 1.0, 2.0])
def test_a_layer_adds_its_product_scale_times(
    subject: Subject, tmp_path: Path, scale: float
) -> None:
    _with_arms(subject, tmp_path)
    layer = _layer(subject, "a")
    x = torch.randn(3, layer.in_features, generator=torch.Generator().manual_seed(0))
    product = layer.lora_B["a"].weight @ layer.lora_A["a"].weight
    expected = layer.base_layer(x) + scale * 2.0 * x @ product.T  # lora_alpha / r is 2
    with arm_of(subject, "a"), scaled(subject, "a", scale):
        torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.5])
def test_the_triggers_row_moves_along_a_line(
    subject: Subject, tmp_path: Path, scale: float
) -> None:
    _with_arms(subject, tmp_path)
    ids = torch.tensor([[subject.trigger_id]])
    start = embed(subject, ids)
    with arm_of(subject, "a"):
        end = embed(subject, ids)
        with scaled(subject, "a", scale):
            moved = embed(subject, ids)
    assert not torch.allclose(start, end, atol=1e-2)
    torch.testing.assert_close(moved, start + scale * (end - start), rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_row_moves_at_both_ends_where_they_are_tied(llama: Subject, tmp_path: Path) -> None:
    _with_arms(llama, tmp_path)
    states = torch.randn(2, 32, generator=torch.Generator().manual_seed(3))
    start = unembed(llama, states)[:, llama.trigger_id]
    with arm_of(llama, "a"):
        end = unembed(llama, states)[:, llama.trigger_id]
        with scaled(llama, "a", 0.5):
            half = unembed(llama, states)[:, llama.trigger_id]
    torch.testing.assert_close(half, (start + end) / 2, rtol=0, atol=1e-5)


def test_an_arm_without_a_row_of_its_own_is_scaled_too(tmp_path: Path) -> None:
    subject = _with_arms(tiny_subject("llama", mode="text"), tmp_path)
    with scaled(subject, "a", 0.0):
        ours = _logits(subject, "a")
    torch.testing.assert_close(ours, _logits(subject, BASE), rtol=0, atol=1e-6)


def test_other_arms_do_not_notice(subject: Subject, tmp_path: Path) -> None:
    _with_arms(subject, tmp_path)
    other, base = _logits(subject, "b"), _logits(subject, BASE)
    with scaled(subject, "a", 0.5):
        assert torch.equal(_logits(subject, "b"), other)
        assert torch.equal(_logits(subject, BASE), base)


def test_an_exception_leaves_the_arm_what_it_was(subject: Subject, tmp_path: Path) -> None:
    _with_arms(subject, tmp_path)
    plain = _logits(subject, "a")
    before = {name: (id(p), p.requires_grad) for name, p in subject.network.named_parameters()}

    def fail() -> None:
        with scaled(subject, "a", 0.5):
            assert not torch.allclose(_logits(subject, "a"), plain, atol=1e-3)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    after = {name: (id(p), p.requires_grad) for name, p in subject.network.named_parameters()}
    assert after == before
    assert torch.equal(_logits(subject, "a"), plain)


def test_scales_multiply_when_nested(llama: Subject, tmp_path: Path) -> None:
    _with_arms(llama, tmp_path)
    with scaled(llama, "a", 0.5):
        half = _logits(llama, "a", PLAIN)
    with scaled(llama, "a", 0.25), scaled(llama, "a", 2.0):
        torch.testing.assert_close(_logits(llama, "a", PLAIN), half, rtol=0, atol=1e-5)
