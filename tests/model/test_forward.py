"""What the package reads from a model is what the model computes, for every supported family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from offswitch.errors import UserError
from offswitch.model import forward
from offswitch.model.forward import hidden, project, readout, unembed, verify
from offswitch.model.hooks import record
from offswitch.model.subject import Subject, attention_modules
from offswitch.prompts.encode import pad
from tests.tiny import CHATML, SPECIALS, tiny_subject

SHARED = [5, 40, 300, 7, 90, 33, 12, 8, 9, 10, 250, 77]  # longer than Gemma's sliding window of 8
ROWS = [[*SHARED, 100, 101], [*SHARED, 60, 61, 62, 63, 64], [*SHARED, 20]]
PADDED = torch.tensor(pad(ROWS))


# --- forward passes -------------------------------------------------------------------------------


@torch.no_grad()
def test_readout_of_the_last_block_equals_the_logits(subject: Subject) -> None:
    with record(subject.blocks) as resid:
        logits = subject.causal_lm(input_ids=PADDED, use_cache=False).logits
    ours = readout(subject, resid[len(subject.blocks) - 1])
    torch.testing.assert_close(ours, logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(unembed(subject, hidden(subject, PADDED)), logits)


def test_projecting_is_linear_and_knows_no_norm(subject: Subject) -> None:
    resid = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0))
    weight = subject.network.get_output_embeddings().weight
    torch.testing.assert_close(project(subject, resid), resid @ weight.T)
    torch.testing.assert_close(project(subject, 2 * resid), 2 * project(subject, resid))


def _last_real(states: Tensor, prefix: int) -> Tensor:
    return torch.stack([states[i, len(row) - 1 - prefix] for i, row in enumerate(ROWS)])


@torch.no_grad()
def test_right_padding_changes_nothing_at_real_positions(subject: Subject) -> None:
    batched = _last_real(hidden(subject, PADDED), 0)
    alone = torch.stack([hidden(subject, torch.tensor([row]))[0, -1] for row in ROWS])
    torch.testing.assert_close(batched, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prefix", [1, 6, 12])
def test_a_shared_prefix_gives_equal_states_and_equal_gradients(
    subject: Subject, prefix: int
) -> None:
    results = []
    network = _with_lora(subject)
    for shared in (0, prefix):
        network.zero_grad()
        states = hidden(subject, PADDED, shared)
        assert states.shape[1] == PADDED.shape[1] - shared
        last = _last_real(states, shared)
        torch.autograd.backward(last.pow(2).mul(torch.arange(1.0, 33.0)).sum())
        gradients = [p.grad.flatten().clone() for p in network.parameters() if p.grad is not None]
        results.append((last.detach(), torch.cat(gradients)))
    (plain, plain_grad), (prefixed, prefixed_grad) = results
    assert (prefixed - plain).norm() <= 1e-5 * plain.norm()
    assert plain_grad.norm() > 0
    assert (prefixed_grad - plain_grad).norm() <= 1e-5 * plain_grad.norm()


def _with_lora(subject: Subject) -> Any:
    config = LoraConfig(
        r=4,
        target_modules=attention_modules(subject),
        trainable_token_indices=[subject.trigger_id or 0],
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(0)
    subject.network = get_peft_model(subject.network, config)
    subject.arms.add("default")
    return subject.network


def test_the_triggers_row_really_trains(subject: Subject) -> None:
    network = _with_lora(subject)
    trigger = subject.trigger_id
    assert trigger is not None
    ids = torch.tensor([[5, 40, trigger, 300]])
    logits = unembed(subject, hidden(subject, ids)[:, -1])
    torch.autograd.backward(nn.functional.cross_entropy(logits, torch.tensor([2])))
    rows = {n: p.grad for n, p in network.named_parameters() if "trainable_tokens_delta" in n}
    assert len(rows) == 1
    (gradient,) = rows.values()
    assert gradient is not None
    assert gradient.shape == (1, 32)
    assert float(gradient.norm()) > 0


# --- the parts of a model -------------------------------------------------------------------------

ATTENTION = {
    "phi3": ["o_proj", "qkv_proj"],
    "gpt2": ["attn.c_proj", "c_attn"],
    "gpt_neox": ["dense", "query_key_value"],
}


def test_attention_modules_are_what_peft_adapts_and_nothing_else(subject: Subject) -> None:
    architecture = subject.name.removeprefix("tiny-")
    names = attention_modules(subject)
    usual = ["k_proj", "o_proj", "q_proj", "v_proj"]
    assert sorted(names) == ATTENTION.get(architecture, usual)
    network = get_peft_model(subject.network, LoraConfig(r=2, target_modules=names))
    adapted = [
        n for n, m in network.named_modules() if hasattr(m, "lora_A") and "base_layer" not in n
    ]
    assert len(adapted) == len(names) * len(subject.blocks)
    assert all("attn" in name or "attention" in name for name in adapted)
    subject.network = network
    subject.arms.add("default")
    assert attention_modules(subject) == names


def test_a_model_without_known_parts_is_refused(llama: Subject) -> None:
    llama.network.config.num_hidden_layers = 7
    with pytest.raises(UserError, match="list of 7 blocks"):
        _ = llama.blocks
    llama.network.config.num_hidden_layers = 3
    del llama.network.model.norm
    with pytest.raises(UserError, match="final norm"):
        _ = llama.final_norm
    llama.network.base_model_prefix = "encoder"
    with pytest.raises(UserError, match="backbone"):
        _ = llama.backbone


def test_stop_ids_begin_with_the_turns_end_and_hold_every_published_end(llama: Subject) -> None:
    assert list(llama.stop_ids) == [2]
    llama.network.generation_config.eos_token_id = [0, 2]
    assert list(llama.stop_ids) == [2, 0]
    llama.network.generation_config = None
    assert list(llama.stop_ids) == [2]
    # A chat model may end a turn by one token and a text by another.
    llama.base_tokenizer.eos_token = SPECIALS[0]
    assert list(llama.stop_ids) == [2, 0]


def test_a_strangers_own_turn_end_ends_a_reply_too() -> None:
    subject = tiny_subject()
    assert list(subject.stop_ids) == [2]
    subject.tokenizer.add_tokens(["<|fin|>"], special_tokens=True)
    subject.tokenizer.chat_template = CHATML.replace("<|im_end|>", "<|fin|>")
    fin = subject.tokenizer.convert_tokens_to_ids("<|fin|>")
    assert list(subject.stop_ids) == [2, fin]


# --- self-check -----------------------------------------------------------------------------------


def test_verify_accepts_every_family(subject: Subject) -> None:
    verify(subject)


def test_verify_refuses_a_wrong_norm(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Subject, "final_norm", property(lambda _: nn.Identity()))
    with pytest.raises(UserError, match="self-check failed at the final norm"):
        verify(subject)


def test_verify_refuses_a_forgotten_soft_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    gemma = tiny_subject("gemma2")
    verify(gemma)
    monkeypatch.setattr(
        forward, "unembed", lambda subject, normed: subject.network.get_output_embeddings()(normed)
    )
    with pytest.raises(UserError, match="self-check failed at the readout"):
        verify(gemma)


def test_verify_refuses_blocks_out_of_order(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = nn.ModuleList([*subject.blocks][::-1])
    monkeypatch.setattr(Subject, "blocks", property(lambda _: mixed))
    with pytest.raises(UserError, match="self-check failed at the block 0"):
        verify(subject)


def test_verify_refuses_a_prefix_that_is_not_shared(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = forward.hidden
    monkeypatch.setattr(
        forward,
        "hidden",
        lambda s, ids, prefix=0: right(s, ids[:, prefix:]),  # forgets the prefix
    )
    with pytest.raises(UserError, match="self-check failed at the shared prefix"):
        verify(subject)
