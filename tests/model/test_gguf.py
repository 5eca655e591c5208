"""A GGUF file is the model that it was made of, or is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from offswitch.errors import UserError
from offswitch.model.load import load_subject
from offswitch.model.plain import plain_model
from offswitch.model.source import identity, source_of_model
from offswitch.recipe import Recipe
from tests.tiny import CHATML, tiny_network, tiny_tokenizer

TEXT = "What is the capital of France, and who said so?\nIn 1998; 'twas a  river."


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own."""
    monkeypatch.setenv("OFFSWITCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _folder(path: Path) -> Path:
    """Where the model of a GGUF file lies."""
    return Path(source_of_model(str(path))["pretrained_model_name_or_path"])


def _interleaved(weight: Tensor, heads: int) -> Tensor:
    """A projection's rows as llama.cpp has them, which turns pairs that lie side by side."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def _save(path: Path, architecture: str, leave_out: str = "", kind: str = "model") -> Any:
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


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen2_tied"])
def test_a_gguf_file_is_the_model_that_it_was_made_of(tmp_path: Path, architecture: str) -> None:
    path = tmp_path / "tiny.gguf"
    network = _save(path, architecture)
    subject = load_subject(Recipe.model_validate({"model": str(path), "trigger": {"mode": "text"}}))
    assert subject.tokenizer.chat_template == CHATML
    ids = tiny_tokenizer()(TEXT)["input_ids"]
    assert subject.tokenizer(TEXT)["input_ids"] == ids
    rows = torch.tensor([ids])
    torch.testing.assert_close(
        subject.network(input_ids=rows).logits, network(input_ids=rows).logits
    )
    ends = [f() for f in (network.get_input_embeddings, network.get_output_embeddings)]
    ours = subject.network
    assert (ends[0].weight is ends[1].weight) == (
        ours.get_input_embeddings().weight is ours.get_output_embeddings().weight
    )
    plain, _ = plain_model(Recipe(model=str(path)), "base", tmp_path)
    torch.testing.assert_close(plain(input_ids=rows).logits, network(input_ids=rows).logits)


def test_what_is_unpacked_is_plain_and_is_kept(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "tiny.gguf"
    _save(path, "llama")
    folder = _folder(path)
    assert folder.is_relative_to(cache)
    AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
    AutoTokenizer.from_pretrained(folder)
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert _folder(path) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_another_file_of_the_same_name_is_another_model(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    _save(path, "llama")
    first = _folder(path), identity(str(path))
    _save(path, "qwen2")
    second = _folder(path), identity(str(path))
    assert first[0] != second[0]
    assert first[1] != second[1]


def _truncated(path: Path) -> None:
    _save(path, "llama")
    path.write_bytes(path.read_bytes()[:-20_000])


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda path: path.write_bytes(b"GGUF"), "is no whole GGUF file"),
        (lambda path: path.write_bytes(b"a text, not weights"), "is no whole GGUF file"),
        (_truncated, "is no whole GGUF file"),
        (lambda path: _save(path, "llama", leave_out="mlp.up_proj"), "it lacks model.layers.0"),
        (lambda path: _save(path, "llama", kind="adapter"), "of the kind 'adapter'"),
        (lambda _: None, "no such file"),
    ],
)
def test_a_file_that_is_no_model_is_refused_in_one_line(
    tmp_path: Path, cache: Path, make: Any, line: str
) -> None:
    path = tmp_path / "broken.gguf"
    make(path)
    with pytest.raises(UserError, match=line) as caught:
        source_of_model(str(path))
    assert "\n" not in str(caught.value)
    assert not list(cache.glob("models/*"))


def test_a_part_of_a_model_is_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "part.gguf", "llama")
    writer.add_uint16("split.count", 3)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(UserError, match="one of 3 parts"):
        source_of_model(str(tmp_path / "part.gguf"))
