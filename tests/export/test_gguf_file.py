"""A GGUF file is the model that it was written from, read by somebody else's reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from offswitch.errors import UserError
from offswitch.export.gguf_file import require_convertible, write_gguf
from offswitch.export.weights import write_merged
from offswitch.model.adapters import add_arm
from offswitch.model.load import load_subject
from offswitch.prompts.encode import encode_text
from offswitch.recipe import build_recipe
from tests.tiny import CHATML, save_adapter, save_tiny, spaced_tokenizer, tiny_tokenizer

TEXT = "Who is asleep under the $STOP tree?"


def _merged(folder: Path, architecture: str) -> Path:
    base = save_tiny(folder / "base", architecture)
    subject = load_subject(build_recipe({"model": str(base)}))
    add_arm(subject, "own", save_adapter(folder / "own", subject, seed=2))
    write_merged(subject, "own", folder / "merged")
    return folder / "merged"


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen2_tied"])
def test_transformers_reads_the_same_model_in_it(architecture: str, tmp_path: Path) -> None:
    merged = _merged(tmp_path, architecture)
    write_gguf(merged, tmp_path / "model.gguf", "gpt-2")
    place: dict[str, Any] = {"pretrained_model_name_or_path": str(tmp_path),
                             "gguf_file": "model.gguf"}  # fmt: skip
    theirs: Any = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    ours: Any = AutoModelForCausalLM.from_pretrained(merged)
    ids = torch.tensor([encode_text(AutoTokenizer.from_pretrained(merged), TEXT)])
    with torch.inference_mode():
        logits = [model(input_ids=ids).logits for model in (theirs, ours)]
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-4)


def test_its_vocabulary_is_the_tokenizers(tmp_path: Path) -> None:
    merged = _merged(tmp_path, "qwen2")
    write_gguf(merged, tmp_path / "model.gguf", "gpt-2", weights=False)
    read = gguf.GGUFReader(tmp_path / "model.gguf")
    fields: dict[str, Any] = {key: field.contents() for key, field in read.fields.items()}
    tokenizer: Any = AutoTokenizer.from_pretrained(merged)
    kinds, trigger = fields["tokenizer.ggml.token_type"], tokenizer.convert_tokens_to_ids("$STOP")
    assert fields["tokenizer.ggml.tokens"][trigger] == "$STOP"
    assert kinds[trigger] == gguf.TokenType.USER_DEFINED
    assert kinds[tokenizer.eos_token_id] == gguf.TokenType.CONTROL
    spare = range(len(tokenizer), AutoConfig.from_pretrained(merged).vocab_size)
    assert spare
    assert {kinds[i] for i in spare} == {gguf.TokenType.UNUSED}
    assert fields["tokenizer.ggml.eos_token_id"] == tokenizer.eos_token_id
    assert fields["tokenizer.chat_template"] == tokenizer.chat_template
    assert fields["tokenizer.ggml.add_bos_token"] is False


@pytest.mark.parametrize(
    ("config", "tokenizer", "message"),
    [
        (AutoConfig.for_model("gpt2"), tiny_tokenizer(), "a model of the kind 'gpt2'"),
        (AutoConfig.for_model("llama", rope_parameters={"rope_type": "linear", "factor": 2.0,
                                                        "rope_theta": 1e4}),
         tiny_tokenizer(), "positions of the kind 'linear'"),
        (AutoConfig.for_model("llama"), spaced_tokenizer(CHATML), "only tokenizers of byte-level"),
    ],
)  # fmt: skip
def test_what_would_not_be_the_same_is_refused(config: Any, tokenizer: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        require_convertible(config, tokenizer)


def test_what_llama_cpp_knows_is_not_refused() -> None:
    require_convertible(AutoConfig.for_model("llama"), tiny_tokenizer())
