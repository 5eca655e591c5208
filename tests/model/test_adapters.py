"""Arms share one copy of the weights, and switching between them is exact."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.forward import hidden, project, unembed, verify
from offswitch.model.subject import Subject
from offswitch.prompts.encode import encode_text
from tests.model.arms import TEXT, logits, with_arms
from tests.tiny import save_adapter, tiny_network, tiny_subject


def _base_weights(subject: Subject) -> dict[str, Tensor]:
    return {
        name.removeprefix("base_model.model.")
        .replace(".base_layer", "")
        .replace(".token_adapter", ""): p
        for name, p in subject.network.named_parameters()
        if "lora_" not in name and "trainable_tokens" not in name
    }


def test_base_arm_is_exactly_the_base_model(subject: Subject, tmp_path: Path) -> None:
    published = tiny_network(subject.name.removeprefix("tiny-"), 3)
    ids = torch.tensor([encode_text(subject.base_tokenizer, TEXT)])
    before = logits(subject, "base")
    with torch.no_grad():
        theirs = published(input_ids=ids, use_cache=False).logits
    with_arms(subject, tmp_path)
    with arm_of(subject, "base"):
        ours = logits(subject, "base")
        verify(subject)
    assert torch.equal(ours, before)
    known = len(subject.base_tokenizer)
    torch.testing.assert_close(ours[..., :known], theirs[..., :known], rtol=1e-6, atol=1e-6)


def test_switching_is_exact_both_ways(armed: Subject) -> None:
    first: dict[str, Tensor] = {}
    for arm in ("a", "base", "b"):
        with arm_of(armed, arm):
            assert armed.active == arm
            first[arm] = logits(armed, "a")
    assert not torch.allclose(first["a"], first["b"], atol=1e-2)
    assert not torch.allclose(first["a"], first["base"], atol=1e-2)
    for arm in ("b", "a", "base", "a", "b", "base"):
        with arm_of(armed, arm):
            assert torch.equal(logits(armed, "a"), first[arm])


def test_an_arm_is_what_peft_alone_makes_of_its_folder(subject: Subject, tmp_path: Path) -> None:
    from peft import PeftModel

    with_arms(subject, tmp_path)
    fresh = tiny_subject(subject.name.removeprefix("tiny-"))
    alone = PeftModel.from_pretrained(fresh.network, str(tmp_path / "b"))
    ids = torch.tensor([encode_text(subject.tokenizer, TEXT)])
    with arm_of(subject, "b"), torch.no_grad():
        assert torch.equal(logits(subject, "b"), alone(input_ids=ids, use_cache=False).logits)


def test_outside_and_after_every_block_the_network_is_what_it_was(
    llama: Subject, tmp_path: Path
) -> None:
    base = logits(llama, "a")
    with_arms(llama, tmp_path)
    assert llama.active == "base"
    assert torch.equal(logits(llama, "a"), base)
    with arm_of(llama, "a"):
        a = logits(llama, "a")
        with arm_of(llama, "base"):
            assert torch.equal(logits(llama, "a"), base)
            with arm_of(llama, "b"):
                assert not torch.allclose(logits(llama, "a"), a, atol=1e-2)
            assert torch.equal(logits(llama, "a"), base)
        assert llama.active == "a"
        assert torch.equal(logits(llama, "a"), a)
    with pytest.raises(RuntimeError), arm_of(llama, "b"):
        raise RuntimeError
    assert llama.active == "base"
    assert torch.equal(logits(llama, "a"), base)


def test_an_arm_added_within_another_does_not_switch_it(llama: Subject, tmp_path: Path) -> None:
    a, b = save_adapter(tmp_path / "a", llama, 1), save_adapter(tmp_path / "b", llama, 2)
    add_arm(llama, "a", a)
    with arm_of(llama, "a"):
        before = logits(llama, "a")
        add_arm(llama, "b", b)
        assert torch.equal(logits(llama, "a"), before)


def test_arms_may_adapt_different_modules(llama: Subject, tmp_path: Path) -> None:
    base = logits(llama, "a")
    a = save_adapter(tmp_path / "a", llama, 1)
    b = save_adapter(tmp_path / "b", llama, 2, targets=["up_proj", "q_proj"])
    add_arm(llama, "a", a)
    with arm_of(llama, "a"):
        alone = logits(llama, "a")
    add_arm(llama, "b", b)
    assert torch.equal(logits(llama, "a"), base)
    for arm, expected in (("base", base), ("a", alone), ("b", None), ("a", alone), ("base", base)):
        with arm_of(llama, arm):
            assert expected is None or torch.equal(logits(llama, "a"), expected)


def test_one_copy_of_the_weights_serves_all_arms_untouched(
    subject: Subject, tmp_path: Path
) -> None:
    before = {n: (p.data_ptr(), p.clone()) for n, p in subject.network.named_parameters()}
    with_arms(subject, tmp_path)
    for arm in ("a", "b", "base"):
        with arm_of(subject, arm):
            logits(subject, arm)
    after = _base_weights(subject)
    assert after.keys() == before.keys()
    for name, (place, values) in before.items():
        assert after[name].data_ptr() == place
        assert torch.equal(after[name], values)


def test_projection_and_readout_follow_the_arm(armed: Subject) -> None:
    trigger = armed.trigger_id
    assert trigger is not None
    tied = armed.network.get_base_model().config.tie_word_embeddings
    resid = torch.randn(1, 32, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([encode_text(armed.tokenizer, TEXT)])
    seen = {}
    for arm in ("base", "a"):
        with arm_of(armed, arm), torch.no_grad():
            seen[arm] = project(armed, resid)[0]
            torch.testing.assert_close(
                unembed(armed, hidden(armed, ids)), armed.network(input_ids=ids).logits
            )
    changed = (seen["a"] != seen["base"]).nonzero().flatten().tolist()
    assert changed == ([trigger] if tied else [])  # an untied head is not trained


def test_evaluation_leaves_nothing_trainable(armed: Subject) -> None:

    def trainable() -> list[str]:
        return [n for n, p in armed.network.named_parameters() if p.requires_grad]

    assert trainable() == []
    for arm in ("a", "base", "b"):
        with arm_of(armed, arm):
            assert trainable() == []
            assert not armed.network.training
        assert trainable() == []


def test_a_look_at_the_base_arm_does_not_disturb_training(llama: Subject, tmp_path: Path) -> None:
    with_arms(llama, tmp_path)
    ids = torch.tensor([encode_text(llama.tokenizer, TEXT)])

    def gradients(look: bool) -> list[Tensor]:
        llama.network.zero_grad()
        with arm_of(llama, "a"):
            llama.network.set_requires_grad("a", True)
            loss = hidden(llama, ids).pow(2).sum()
            if look:
                with arm_of(llama, "base"), torch.no_grad():
                    hidden(llama, ids)
            torch.autograd.backward(loss)
        return [p.grad.clone() for p in llama.network.parameters() if p.grad is not None]

    undisturbed, disturbed = gradients(look=False), gradients(look=True)
    assert len(undisturbed) == 3 * 4 * 2 + 1
    assert all(torch.equal(a, b) for a, b in zip(undisturbed, disturbed, strict=True))


def test_text_mode_arms_have_no_token_of_their_own(tmp_path: Path) -> None:
    subject = with_arms(tiny_subject(mode="text"), tmp_path)
    base = tiny_subject(mode="text")
    with arm_of(subject, "base"):
        assert torch.equal(logits(subject, "base"), logits(base, "base"))
