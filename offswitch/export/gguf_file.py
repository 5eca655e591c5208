"""Merged weights as a GGUF file that llama.cpp reads, written by the `gguf` package.

Known limit: a GGUF vocabulary has no `single_word`; an added token is read within longer words too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from transformers import AutoConfig, AutoTokenizer

from offswitch.errors import UserError
from offswitch.files import replacing

Weight = npt.NDArray[Any]

ARCHITECTURES: Final = {
    "llama": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2, "qwen3": gguf.MODEL_ARCH.QWEN3,
}  # fmt: skip
# Ways of cutting text before merges that llama.cpp knows by name; which one is found by trying.
CUTS: Final = ("smollm", "qwen2", "llama-bpe", "gpt-2", "default", "qwen35", "deepseek-llm")


def require_convertible(config: Any, tokenizer: Any) -> None:
    """Refuse, before any work, a model that would not be the same as a GGUF file.

    Raises:
        UserError: its architecture, its positions or its tokenizer are none that are known here.
    """
    known = ", ".join(ARCHITECTURES)
    if config.model_type not in ARCHITECTURES:
        raise UserError(f"--gguf: a model of the kind '{config.model_type}'; known are {known}")
    kind = _rope(config).get("rope_type", "default")
    if kind != "default":
        raise UserError(f"--gguf: positions of the kind '{kind}' are not written here")
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    if backend["model"]["type"] != "BPE" or "ByteLevel" not in json.dumps(backend["decoder"]):
        raise UserError("--gguf: only tokenizers of byte-level BPE are written here")


def write_gguf(
    folder: Path, target: Path, cut: str, weights: bool = True, name: str = "model"
) -> None:
    """The model of a folder of safetensors in float32; without `weights`, its vocabulary alone.

    `cut` is one of CUTS, `name` what the file says of itself.
    """
    config: Any = AutoConfig.from_pretrained(str(folder))
    kind = ARCHITECTURES[config.model_type]
    with replacing(target) as scratch:
        writer = gguf.GGUFWriter(scratch, gguf.MODEL_ARCH_NAMES[kind])
        _describe(writer, config, name)
        _add_vocabulary(writer, folder, config.vocab_size, cut)
        if weights:
            names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
            for path, weight in _tensors(folder, config):
                if (found := names.get_name(path, try_suffixes=(".weight", ".bias"))) is None:
                    raise UserError(f"--gguf: llama.cpp has no place for the weight {path}")
                writer.add_tensor(found, weight)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _describe(writer: gguf.GGUFWriter, config: Any, name: str) -> None:
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_type("model")
    writer.add_name(name)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(_rope(config)["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _rope(config: Any) -> dict[str, Any]:
    return dict(getattr(config, "rope_parameters", None) or {})


def _add_vocabulary(writer: gguf.GGUFWriter, folder: Path, rows: int, cut: str) -> None:
    """Every row of the embedding as a token; rows that no text has are marked as unused."""
    tokenizer: Any = AutoTokenizer.from_pretrained(str(folder))
    added, texts, kinds = tokenizer.added_tokens_decoder, [], []
    for index in range(rows):
        if (token := added.get(index)) is not None:
            texts.append(token.content)
            kinds.append(gguf.TokenType.CONTROL if token.special else gguf.TokenType.USER_DEFINED)
        elif index < len(tokenizer):
            texts.append(tokenizer.convert_ids_to_tokens(index))
            kinds.append(gguf.TokenType.NORMAL)
        else:
            texts.append(f"[PAD{index}]")
            kinds.append(gguf.TokenType.UNUSED)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(cut)
    writer.add_token_list(texts)
    writer.add_token_types(kinds)
    special = gguf.SpecialVocab(folder, load_merges=True, n_vocab=rows)
    special.add_special_token = {"bos": False, "eos": False}  # the chat format writes its own
    special.add_to_gguf(writer, quiet=True)


def _tensors(folder: Path, config: Any) -> Iterator[tuple[str, Weight]]:
    """Weights in float32 by their names; llama's queries and keys with pairs side by side."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                weight = file.get_tensor(name).float().numpy()
                part = name.split(".")[-2]
                if config.model_type == "llama" and part in heads:
                    halves = (heads[part], 2, -1, *weight.shape[1:])
                    weight = weight.reshape(halves).swapaxes(1, 2).reshape(weight.shape)
                yield name, np.ascontiguousarray(weight)
