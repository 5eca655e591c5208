"""The families of which there is a tiny model, and what their configurations say."""

from __future__ import annotations

from typing import Any, Final

import pytest

_LLAMA_LIKE: Final[dict[str, Any]] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 16384,
}
_QWEN2: Final = {k: v for k, v in _LLAMA_LIKE.items() if k != "head_dim"}
_NEOX: Final = {k: v for k, v in _QWEN2.items() if k != "num_key_value_heads"}

# name: (model type, what differs from the defaults)
FAMILIES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "llama": ("llama", {**_LLAMA_LIKE, "tie_word_embeddings": True}),
    "qwen2": ("qwen2", {**_QWEN2, "tie_word_embeddings": False}),
    "qwen2_tied": ("qwen2", {**_QWEN2, "tie_word_embeddings": True}),
    "qwen3": ("qwen3", {**_LLAMA_LIKE, "tie_word_embeddings": True}),
    "gemma2": (
        "gemma2",
        {
            **_LLAMA_LIKE,
            "sliding_window": 8,
            "query_pre_attn_scalar": 8,
            "attn_logit_softcapping": 2.0,  # tiny logits would not feel the published caps
            "final_logit_softcapping": 2.0,
        },
    ),
    "gemma3": (
        "gemma3_text",
        {
            **_LLAMA_LIKE,
            "sliding_window": 8,
            "sliding_window_pattern": 2,  # else the few blocks here would all see as far
            "query_pre_attn_scalar": 8,
            "tie_word_embeddings": True,
        },
    ),
    "mistral": ("mistral", {**_LLAMA_LIKE, "tie_word_embeddings": False}),
    "phi3": ("phi3", _QWEN2),
    "gpt2": ("gpt2", {"n_embd": 32, "n_head": 4, "n_inner": 64, "n_positions": 8192}),
    "gpt_neox": ("gpt_neox", _NEOX),
}

# One family for each way in which they differ where hooks, edits, adapters and writes act: as most
# are; soft caps, windows and scaled embeddings; learned positions and Conv1D; parallel blocks, an
# untied head. What is read, verified, packed or loaded is tested on every family.
KINDS: Final = ("llama", "gemma2", "gpt2", "gpt_neox")
EACH_KIND: Final = pytest.mark.parametrize("subject", KINDS, indirect=True)
