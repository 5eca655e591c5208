"""An adapter that does not belong is refused in one line, and the subject is what it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from offswitch.errors import UserError
from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.subject import Subject
from tests.model.arms import logits, with_arms
from tests.tiny import save_adapter, tiny_subject


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
    before = logits(llama, "base")
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
        assert torch.equal(logits(llama, "base"), before)


def test_a_second_adapter_that_does_not_fit_leaves_the_first(
    llama: Subject, tmp_path: Path
) -> None:
    add_arm(llama, "a", save_adapter(tmp_path / "a", llama, 1))
    with arm_of(llama, "a"):
        before = logits(llama, "a")
    plain = tiny_subject()
    sized = _edit_config(save_adapter(tmp_path / "sized", plain), r=8)
    with pytest.raises(UserError, match="does not fit"):
        add_arm(llama, "b", sized)
    with pytest.raises(UserError, match="already"):
        add_arm(llama, "a", tmp_path / "a")
    assert llama.arms == {"a"}
    with arm_of(llama, "a"):
        assert torch.equal(logits(llama, "a"), before)
    add_arm(llama, "b", save_adapter(tmp_path / "b", plain, 2))
    with arm_of(llama, "b"):
        assert not torch.allclose(logits(llama, "b"), before, atol=1e-2)


def test_unknown_arms_are_refused_by_name(llama: Subject, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no arm 'both'; trained here: none"), arm_of(llama, "both"):
        pass
    with_arms(llama, tmp_path)
    with pytest.raises(UserError, match="trained here: a, b"), arm_of(llama, "both"):
        pass
    with pytest.raises(UserError, match="choose another name"):
        add_arm(llama, "base", tmp_path / "a")


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
