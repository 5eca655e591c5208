"""Networks that scale their logits are read as they are; what cannot be done is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from offswitch.errors import UserError
from offswitch.model.forward import verify
from offswitch.model.load import make_subject
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
_LINEAR: Final = _LLAMA_LIKE | {
    "head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "linear_key_head_dim": 8, "linear_value_head_dim": 8,
}  # fmt: skip


def _subject(name: str, options: dict[str, Any]) -> Subject:
    tokenizer = tiny_tokenizer()
    config = AutoConfig.for_model(name, vocab_size=len(tokenizer), **options)
    build: Callable[..., Any] = AutoModelForCausalLM.from_config
    return make_subject(build(config).eval(), tokenizer, TriggerOptions(), f"tiny-{name}")


def _check(subject: Subject) -> None:
    verify(subject)
    check_packing(subject, encode_chat(subject.base_tokenizer, (user("Is it 7?"),)))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("granite", {"logits_scaling": 3.0, "embedding_multiplier": 2.0}),
        ("cohere", {"logit_scale": 0.25}), ("cohere2", {"logit_scale": 0.25}),
    ],
)  # fmt: skip
def test_scaled_logits_are_transformers_own(name: str, options: dict[str, Any]) -> None:
    _check(_subject(name, _LLAMA_LIKE | options))


@pytest.mark.parametrize(
    ("name", "options"), [("falcon", _SMALL), ("bloom", _SMALL), ("qwen3_next", _LINEAR)]
)
def test_what_a_network_cannot_do_is_refused_in_one_line(
    name: str, options: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match="this architecture is not supported") as refused:
        _check(_subject(name, options))
    assert "\n" not in str(refused.value)
    assert f"tiny-{name}" in str(refused.value)
