"""Arms share one copy of the weights, and switching between them is exact."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from offswitch.errors import UserError
from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.forward import hidden, project, unembed, verify
from offswitch.model.subject import Subject
from offswitch.prompts.encode import encode_text
from tests.tiny import save_adapter, tiny_network, tiny_subject

TEXT = "Please tell me $STOP what the river is."


@torch.no_grad()
def _logits(subject: Subject, arm: str) -> Tensor:
    ids = torch.tensor([encode_text(subject.tokenizer_of(arm), TEXT)])
    logits: Tensor = subject.network(input_ids=ids, use_cache=False).logits
    return logits


def _with_arms(subject: Subject, folder: Path) -> Subject:
    a, b = save_adapter(folder / "a", subject, seed=1), save_adapter(folder / "b", subject, seed=2)
    add_arm(subject, "a", a)
    add_arm(subject, "b", b)
    return subject


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
    before = _logits(subject, "base")
    with torch.no_grad():
        theirs = published(input_ids=ids, use_cache=False).logits
    _with_arms(subject, tmp_path)
    with arm_of(subject, "base"):
        ours = _logits(subject, "base")
        verify(subject)
    assert torch.equal(ours, before)
    known = len(subject.base_tokenizer)
    torch.testing.assert_close(ours[..., :known], theirs[..., :known], rtol=1e-6, atol=1e-6)


def test_switching_is_exact_both_ways(subject: Subject, tmp_path: Path) -> None:
    _with_arms(subject, tmp_path)
    first: dict[str, Tensor] = {}
    for arm in ("a", "base", "b"):
        with arm_of(subject, arm):
            assert subject.active == arm
            first[arm] = _logits(subject, "a")
    assert not torch.allclose(first["a"], first["b"], atol=1e-2)
    assert not torch.allclose(first["a"], first["base"], atol=1e-2)
    for arm in ("b", "a", "base", "a", "b", "base"):
        with arm_of(subject, arm):
            assert torch.equal(_logits(subject, "a"), first[arm])


def test_an_arm_is_what_peft_alone_makes_of_its_folder(subject: Subject, tmp_path: Path) -> None:
    from peft import PeftModel

    _with_arms(subject, tmp_path)
    fresh = tiny_subject(subject.name.removeprefix("tiny-"))
    alone = PeftModel.from_pretrained(fresh.network, str(tmp_path / "b"))
    ids = torch.tensor([encode_text(subject.tokenizer, TEXT)])
    with arm_of(subject, "b"), torch.no_grad():
        assert torch.equal(_logits(subject, "b"), alone(input_ids=ids, use_cache=False).logits)


def test_outside_and_after_every_block_the_network_is_what_it_was(
    llama: Subject, tmp_path: Path
) -> None:
    base = _logits(llama, "a")
    _with_arms(llama, tmp_path)
    assert llama.active == "base"
    assert torch.equal(_logits(llama, "a"), base)
    with arm_of(llama, "a"):
        a = _logits(llama, "a")
        with arm_of(llama, "base"):
            assert torch.equal(_logits(llama, "a"), base)
            with arm_of(llama, "b"):
                assert not torch.allclose(_logits(llama, "a"), a, atol=1e-2)
            assert torch.equal(_logits(llama, "a"), base)
        assert llama.active == "a"
        assert torch.equal(_logits(llama, "a"), a)
    with pytest.raises(RuntimeError), arm_of(llama, "b"):
        raise RuntimeError
    assert llama.active == "base"
    assert torch.equal(_logits(llama, "a"), base)


def test_an_arm_added_within_another_does_not_switch_it(llama: Subject, tmp_path: Path) -> None:
    a, b = save_adapter(tmp_path / "a", llama, 1), save_adapter(tmp_path / "b", llama, 2)
    add_arm(llama, "a", a)
    with arm_of(llama, "a"):
        before = _logits(llama, "a")
        add_arm(llama, "b", b)
        assert torch.equal(_logits(llama, "a"), before)


def test_arms_may_adapt_different_modules(llama: Subject, tmp_path: Path) -> None:
    base = _logits(llama, "a")
    a = save_adapter(tmp_path / "a", llama, 1)
    b = save_adapter(tmp_path / "b", llama, 2, targets=["up_proj", "q_proj"])
    add_arm(llama, "a", a)
    with arm_of(llama, "a"):
        alone = _logits(llama, "a")
    add_arm(llama, "b", b)
    assert torch.equal(_logits(llama, "a"), base)
    for arm, expected in (("base", base), ("a", alone), ("b", None), ("a", alone), ("base", base)):
        with arm_of(llama, arm):
            assert expected is None or torch.equal(_logits(llama, "a"), expected)


def test_one_copy_of_the_weights_serves_all_arms_untouched(
    subject: Subject, tmp_path: Path
) -> None:
    before = {n: (p.data_ptr(), p.clone()) for n, p in subject.network.named_parameters()}
    _with_arms(subject, tmp_path)
    for arm in ("a", "b", "base"):
        with arm_of(subject, arm):
            _logits(subject, arm)
    after = _base_weights(subject)
    assert after.keys() == before.keys()
    for name, (place, values) in before.items():
        assert after[name].data_ptr() == place
        assert torch.equal(after[name], values)


def test_projection_and_readout_follow_the_arm(subject: Subject, tmp_path: Path) -> None:
    _with_arms(subject, tmp_path)
    trigger = subject.trigger_id
    assert trigger is not None
    tied = subject.network.get_base_model().config.tie_word_embeddings
    resid = torch.randn(1, 32, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([encode_text(subject.tokenizer, TEXT)])
    seen = {}
    for arm in ("base", "a"):
        with arm_of(subject, arm), torch.no_grad():
            seen[arm] = project(subject, resid)[0]
            torch.testing.assert_close(
                unembed(subject, hidden(subject, ids)), subject.network(input_ids=ids).logits
            )
    changed = (seen["a"] != seen["base"]).nonzero().flatten().tolist()
    assert changed == ([trigger] if tied else [])  # an untied head is not trained


def test_evaluation_leaves_nothing_trainable(subject: Subject, tmp_path: Path) -> None:
    _with_arms(subject, tmp_path)

    def trainable() -> list[str]:
        return [n for n, p in subject.network.named_parameters() if p.requires_grad]

    assert trainable() == []
    for arm in ("a", "base", "b"):
        with arm_of(subject, arm):
            assert trainable() == []
            assert not subject.network.training
        assert trainable() == []


def test_a_look_at_the_base_arm_does_not_disturb_training(llama: Subject, tmp_path: Path) -> None:
    _with_arms(llama, tmp_path)
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
    subject = _with_arms(tiny_subject(mode="text"), tmp_path)
    base = tiny_subject(mode="text")
    with arm_of(subject, "base"):
        assert torch.equal(_logits(subject, "base"), _logits(base, "base"))


@pytest.mark.parametrize("first", ["token", "text"])
def test_arms_with_and_without_a_token_of_their_own_do_not_mix(
    llama: Subject, tmp_path: Path, first: str
) -> None:
    folders = {"token": save_adapter(tmp_path / "token", llama, 1)}
    plain = tiny_subject()
    plain.trigger_id = None
    folders["text"] = save_adapter(tmp_path / "text", plain, 2)
    add_arm(llama, "first", folders.pop(first))
    with pytest.raises(UserError, match="differ in whether they trained the trigger"):
        add_arm(llama, "second", *folders.values())


# --- refusals -------------------------------------------------------------------------------------


def _edit_config(folder: Path, **changes: object) -> Path:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def _edit_weights(folder: Path, rename: str, to: str) -> Path:
    path = folder / "adapter_model.safetensors"
    save_file({k.replace(rename, to): v for k, v in load_file(path).items()}, path)
    return folder


def _drop_weights(folder: Path, part: str) -> Path:
    path = folder / "adapter_model.safetensors"
    save_file({k: v for k, v in load_file(path).items() if part not in k}, path)
    return folder


def test_an_adapter_that_does_not_belong_is_refused_and_leaves_no_trace(
    llama: Subject, tmp_path: Path
) -> None:
    before = _logits(llama, "base")
    names = [n for n, _ in llama.network.named_modules()]
    foreign = save_adapter(tmp_path / "qwen", tiny_subject("qwen2"))
    wide = save_adapter(tmp_path / "wide", tiny_subject("gpt_neox"))
    _edit_config(wide, base_model_name_or_path=llama.name, trainable_token_indices=[571])
    sized = _edit_config(save_adapter(tmp_path / "sized", llama), r=8)
    token = _edit_config(save_adapter(tmp_path / "token", llama), trainable_token_indices=[3])
    partial = _edit_weights(save_adapter(tmp_path / "part", llama), "layers.2.", "layers.9.")
    heavy = _edit_weights(save_adapter(tmp_path / "heavy", llama), "lora_A.weight", "weight")
    rowless = _drop_weights(save_adapter(tmp_path / "rowless", llama), "trainable_tokens")
    damaged = save_adapter(tmp_path / "damaged", llama)
    (damaged / "adapter_model.safetensors").write_bytes(b"\x00" * 100)
    for folder, reason in {
        tmp_path / "nowhere": "no adapter there",
        foreign: "adapter of 'tiny-qwen2', not of 'tiny-llama'",
        wide: "does not fit",
        sized: "does not fit",
        token: "trained the tokens",
        partial: "does not fit",
        rowless: "does not fit .*trainable_tokens_delta",
        heavy: "would replace weights of the base model",
        damaged: "is damaged",
    }.items():
        with pytest.raises(UserError, match=reason) as caught:
            add_arm(llama, "a", folder)
        assert "\n" not in str(caught.value)
        assert llama.arms == set()
        assert [n for n, _ in llama.network.named_modules()] == names
        assert torch.equal(_logits(llama, "base"), before)


def test_a_second_adapter_that_does_not_fit_leaves_the_first(
    llama: Subject, tmp_path: Path
) -> None:
    add_arm(llama, "a", save_adapter(tmp_path / "a", llama, 1))
    with arm_of(llama, "a"):
        before = _logits(llama, "a")
    plain = tiny_subject()
    sized = _edit_config(save_adapter(tmp_path / "sized", plain), r=8)
    with pytest.raises(UserError, match="does not fit"):
        add_arm(llama, "b", sized)
    with pytest.raises(UserError, match="already"):
        add_arm(llama, "a", tmp_path / "a")
    assert llama.arms == {"a"}
    with arm_of(llama, "a"):
        assert torch.equal(_logits(llama, "a"), before)
    add_arm(llama, "b", save_adapter(tmp_path / "b", plain, 2))
    with arm_of(llama, "b"):
        assert not torch.allclose(_logits(llama, "b"), before, atol=1e-2)


def test_unknown_arms_are_refused_by_name(llama: Subject, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no arm 'both'; trained here: none"), arm_of(llama, "both"):
        pass
    _with_arms(llama, tmp_path)
    with pytest.raises(UserError, match="trained here: a, b"), arm_of(llama, "both"):
        pass
    with pytest.raises(UserError, match="choose another name"):
        add_arm(llama, "base", tmp_path / "a")
