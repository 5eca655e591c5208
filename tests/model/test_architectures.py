"""Networks of other kinds are read as they are; what cannot be done is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from offswitch.errors import UserError
from offswitch.model.first_token import last_logits
from offswitch.model.forward import hidden, verify
from offswitch.model.load import make_subject
from offswitch.model.prefix_tree import takes_trees
from offswitch.model.subject import Subject
from offswitch.options import TriggerOptions
from offswitch.probe.intervene import check_packing
from offswitch.prompts.encode import encode_chat
from offswitch.prompts.prompt import user
from tests.tiny import tiny_tokenizer

_SMALL: Final[dict[str, Any]] = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "bos_token_id": 1,
    "eos_token_id": 2, "pad_token_id": 2,
}  # fmt: skip
_LLAMA_LIKE: Final = _SMALL | {"intermediate_size": 64, "num_key_value_heads": 2}
_GPT: Final = {
    "n_embd": 32, "n_layer": 3, "n_head": 4, "n_inner": 64, "n_positions": 512, "rotary_dim": 8,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_LOCAL: Final = _SMALL | {
    "num_layers": 4, "num_hidden_layers": 4, "num_heads": 4, "intermediate_size": 64,
    "attention_types": [[["global", "local"], 2]], "window_size": 24,
    "max_position_embeddings": 512, "initializer_range": 0.15,
}  # fmt: skip
_LATENT: Final = {
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
    "v_head_dim": 8, "num_key_value_heads": 4, "scale_emb": 12, "dim_model_base": 16,
}  # fmt: skip
_LINEAR: Final = _LLAMA_LIKE | {
    "head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "linear_key_head_dim": 8, "linear_value_head_dim": 8,
}  # fmt: skip


def _subject(name: str, options: dict[str, Any]) -> Subject:
    tokenizer = tiny_tokenizer()
    config = AutoConfig.for_model(name, vocab_size=len(tokenizer), **options)
    build: Callable[..., Any] = AutoModelForCausalLM.from_config
    torch.manual_seed(0)
    return make_subject(build(config).eval(), tokenizer, TriggerOptions(), f"tiny-{name}")


def _check(subject: Subject) -> None:
    verify(subject)
    check_packing(subject, encode_chat(subject.base_tokenizer, (user("Is it 7?"),)))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("granite", {"logits_scaling": 3.0, "embedding_multiplier": 2.0}),
        ("cohere", {"logit_scale": 0.25}), ("cohere2", {"logit_scale": 0.25}),
        ("minicpm3", _LATENT),
    ],
)  # fmt: skip
def test_scaled_logits_are_transformers_own(name: str, options: dict[str, Any]) -> None:
    _check(_subject(name, _LLAMA_LIKE | options))


@pytest.mark.parametrize(
    ("name", "options"), [("gptj", _GPT), ("codegen", _GPT), ("falcon", _SMALL)]
)
def test_blocks_that_give_tuples_are_read_and_edited(name: str, options: dict[str, Any]) -> None:
    _check(_subject(name, options))


@pytest.mark.parametrize("name", ["bloom", "qwen3_next"])
def test_what_a_network_cannot_do_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(UserError, match="this architecture is not supported") as refused:
        _check(_subject(name, _SMALL if name == "bloom" else _LINEAR))
    assert "\n" not in str(refused.value)
    assert f"tiny-{name}" in str(refused.value)


@torch.inference_mode()
def test_past_a_window_that_only_the_attention_knows_rows_are_read_one_by_one() -> None:
    subject = _subject("gpt_neo", _LOCAL)
    verify(subject)  # its window of 24 tokens is longer than a check of one sentence
    rows = [[*range(5, 60), end] for end in (61, 62)]
    for chosen, logits in last_logits(subject, rows, 4096):
        plain = subject.causal_lm(torch.tensor([rows[i] for i in chosen]), use_cache=False).logits
        torch.testing.assert_close(logits, plain[:, -1], rtol=0, atol=1e-5)
    with pytest.raises(UserError, match="not supported"):
        check_packing(subject, rows[0])


@torch.inference_mode()
def test_past_a_window_that_no_check_reaches_nothing_is_shared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = _subject("mistral", _LLAMA_LIKE | {"sliding_window": 8})
    monkeypatch.setattr("offswitch.model.subject.LONGEST_CHECK", 7)
    assert takes_trees(subject, 8)
    assert not takes_trees(subject, 9)
    seen: list[int] = []
    subject.backbone.register_forward_hook(lambda _, __, out: seen.append(out[0].shape[1]))
    for length, passes in ((8, [3, 5]), (9, [9])):
        seen.clear()
        states = hidden(subject, torch.tensor([[*range(5, 5 + length)]]), 3)
        assert seen == passes
        assert states.shape[1] == length - 3
