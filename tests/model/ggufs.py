"""Tiny models as GGUF files, as converters write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
from torch import Tensor

from tests.tiny import CHATML, tiny_network, tiny_tokenizer


def _interleaved(weight: Tensor, heads: int) -> Tensor:
    """A projection's rows as llama.cpp has them, which turns pairs that lie side by side."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def save_gguf(path: Path, architecture: str, leave_out: str = "", kind: str = "model") -> Any:
    """Write a tiny model as a GGUF file, as converters do; returns its network."""
    network, tokenizer = tiny_network(architecture, 2), tiny_tokenizer(CHATML)
    config, family = network.config, architecture.removesuffix("_tied")
    writer = gguf.GGUFWriter(path, family)
    writer.add_type(kind)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    names += [f"[PAD{i}]" for i in range(len(names), config.vocab_size)]
    special = set(tokenizer.all_special_ids)
    types = gguf.TokenType
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(names)
    writer.add_token_types([types.CONTROL if i in special else types.NORMAL
                            for i in range(len(names))])  # fmt: skip
    told = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in told])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(CHATML)
    kinds = {"llama": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2}
    called = gguf.get_tensor_name_map(kinds[family], config.num_hidden_layers)
    tied = config.tie_word_embeddings
    for name, weight in network.state_dict().items():
        if (tied and name.startswith("lm_head")) or (leave_out and leave_out in name):
            continue
        kept = weight
        if family == "llama" and name.endswith("q_proj.weight"):
            kept = _interleaved(weight, config.num_attention_heads)
        if family == "llama" and name.endswith("k_proj.weight"):
            kept = _interleaved(weight, config.num_key_value_heads)
        new = called.get_name(name, try_suffixes=(".weight", ".bias"))
        assert new
        writer.add_tensor(new, kept.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return network
