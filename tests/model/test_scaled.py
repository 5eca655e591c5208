"""An adapter turned up or down is linear in what training added, and is put back whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor

from offswitch.model.adapters import arm_of, scaled
from offswitch.model.forward import embed, hidden, unembed
from offswitch.model.subject import Subject
from offswitch.options import BASE
from offswitch.prompts.encode import encode_text
from tests.model.arms import with_arms
from tests.tiny import tiny_subject

PLAIN = "Please tell me what the river is."
MARKED = "Please tell me $STOP what the river is."


@torch.no_grad()
def _logits(subject: Subject, arm: str, text: str = MARKED) -> Tensor:
    ids = torch.tensor([encode_text(subject.tokenizer, text)])
    with arm_of(subject, arm):
        return unembed(subject, hidden(subject, ids))


def _layer(subject: Subject, arm: str) -> Any:
    modules = subject.network.modules()
    return next(m for m in modules if isinstance(m, LoraLayer) and arm in m.scaling)


@torch.no_grad()
def test_scale_one_is_the_arm_to_the_bit(armed: Subject) -> None:
    plain, base = _logits(armed, "a"), _logits(armed, BASE)
    with scaled(armed, "a", 1.0):
        assert torch.equal(_logits(armed, "a"), plain)
    assert not torch.allclose(plain, base, atol=1e-2)


@pytest.mark.parametrize("text", [PLAIN, MARKED])
def test_scale_zero_is_the_base_network(armed: Subject, text: str) -> None:
    """Also where the trigger stands: its row is the one that training started from."""
    with scaled(armed, "a", 0.0):
        ours = _logits(armed, "a", text)
    torch.testing.assert_close(ours, _logits(armed, BASE, text), rtol=0, atol=1e-6)


def test_without_tokens_the_trained_row_stays_in_the_untrained_network(armed: Subject) -> None:
    with scaled(armed, "a", 0.0, tokens=False):
        assert not torch.allclose(_logits(armed, "a"), _logits(armed, BASE), atol=1e-3)
        ours, theirs = (_logits(armed, arm, PLAIN) for arm in ("a", BASE))
        before = slice(armed.trigger_id)  # its row may also be what says the token
        torch.testing.assert_close(ours[..., before], theirs[..., before])


@torch.no_grad()
@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.5, 1.0, 2.0])
def test_a_layer_adds_its_product_scale_times(armed: Subject, scale: float) -> None:
    layer = _layer(armed, "a")
    x = torch.randn(3, layer.in_features, generator=torch.Generator().manual_seed(0))
    product = layer.lora_B["a"].weight @ layer.lora_A["a"].weight
    expected = layer.base_layer(x) + scale * 2.0 * x @ product.T  # lora_alpha / r is 2
    with arm_of(armed, "a"), scaled(armed, "a", scale):
        torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.5])
def test_the_triggers_row_moves_along_a_line(armed: Subject, scale: float) -> None:
    ids = torch.tensor([[armed.trigger_id]])
    start = embed(armed, ids)
    with arm_of(armed, "a"):
        end = embed(armed, ids)
        with scaled(armed, "a", scale):
            moved = embed(armed, ids)
    assert not torch.allclose(start, end, atol=1e-2)
    torch.testing.assert_close(moved, start + scale * (end - start), rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_row_moves_at_both_ends_where_they_are_tied(llama: Subject, tmp_path: Path) -> None:
    with_arms(llama, tmp_path)
    states = torch.randn(2, 32, generator=torch.Generator().manual_seed(3))
    start = unembed(llama, states)[:, llama.trigger_id]
    with arm_of(llama, "a"):
        end = unembed(llama, states)[:, llama.trigger_id]
        with scaled(llama, "a", 0.5):
            half = unembed(llama, states)[:, llama.trigger_id]
    torch.testing.assert_close(half, (start + end) / 2, rtol=0, atol=1e-5)


def test_an_arm_without_a_row_of_its_own_is_scaled_too(tmp_path: Path) -> None:
    subject = with_arms(tiny_subject("llama", mode="text"), tmp_path)
    with scaled(subject, "a", 0.0):
        ours = _logits(subject, "a")
    torch.testing.assert_close(ours, _logits(subject, BASE), rtol=0, atol=1e-6)


def test_other_arms_do_not_notice(armed: Subject) -> None:
    other, base = _logits(armed, "b"), _logits(armed, BASE)
    with scaled(armed, "a", 0.5):
        assert torch.equal(_logits(armed, "b"), other)
        assert torch.equal(_logits(armed, BASE), base)


def test_an_exception_leaves_the_arm_what_it_was(armed: Subject) -> None:
    plain = _logits(armed, "a")
    before = {name: (id(p), p.requires_grad) for name, p in armed.network.named_parameters()}

    def fail() -> None:
        with scaled(armed, "a", 0.5):
            assert not torch.allclose(_logits(armed, "a"), plain, atol=1e-3)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    after = {name: (id(p), p.requires_grad) for name, p in armed.network.named_parameters()}
    assert after == before
    assert torch.equal(_logits(armed, "a"), plain)


def test_scales_multiply_when_nested(llama: Subject, tmp_path: Path) -> None:
    with_arms(llama, tmp_path)
    with scaled(llama, "a", 0.5):
        half = _logits(llama, "a", PLAIN)
    with scaled(llama, "a", 0.25), scaled(llama, "a", 2.0):
        torch.testing.assert_close(_logits(llama, "a", PLAIN), half, rtol=0, atol=1e-5)
