"""A GGUF file is the model that it was made of, or is refused in one line."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, Final

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from offswitch.errors import UserError
from offswitch.model import gguf_header
from offswitch.model.load import load_subject
from offswitch.model.plain import plain_model
from offswitch.model.source import identity, source_of_model
from offswitch.recipe import Recipe
from tests.model.ggufs import save_gguf
from tests.tiny import CHATML, tiny_tokenizer

TEXT = "What is the capital of France, and who said so?\nIn 1998; 'twas a  river."


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own."""
    monkeypatch.setenv("OFFSWITCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _folder(path: Path) -> Path:
    """Where the model of a GGUF file lies."""
    return Path(source_of_model(str(path))["pretrained_model_name_or_path"])


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen2_tied"])
def test_a_gguf_file_is_the_model_that_it_was_made_of(tmp_path: Path, architecture: str) -> None:
    path = tmp_path / "tiny.gguf"
    network = save_gguf(path, architecture)
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
    save_gguf(path, "llama")
    folder = _folder(path)
    assert folder.is_relative_to(cache)
    AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
    AutoTokenizer.from_pretrained(folder)
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert _folder(path) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_another_file_of_the_same_name_is_another_model(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    save_gguf(path, "llama")
    first = _folder(path), identity(str(path))
    save_gguf(path, "qwen2")
    second = _folder(path), identity(str(path))
    assert first[0] != second[0]
    assert first[1] != second[1]


def _truncated(path: Path) -> None:
    save_gguf(path, "llama")
    path.write_bytes(path.read_bytes()[:-20_000])


def _endless(path: Path) -> None:
    save_gguf(path, "llama")
    told = b"llama.block_count" + struct.pack("<I", gguf.GGUFValueType.UINT32)
    blocks = told + struct.pack("<I", 2), told + struct.pack("<I", 10**9)
    path.write_bytes(path.read_bytes().replace(*blocks))


def _announces(path: Path, value: bytes) -> None:
    """A file of one field, `a`, whose type and value are given, and of no tensor."""
    path.write_bytes(b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"a" + value)


_ARRAY: Final = 9
_ENDLESS: Final = struct.pack("<IIQ", _ARRAY, gguf.GGUFValueType.UINT8, 1 << 40)
_LONG: Final = struct.pack("<IQ", gguf.GGUFValueType.STRING, (1 << 63) - 1)
_DEEP: Final = struct.pack("<I", _ARRAY) + 2000 * struct.pack("<IQ", _ARRAY, 1)
_MANY: Final = struct.pack("<IIQ", _ARRAY, gguf.GGUFValueType.UINT8, 30_000) + bytes(30_000)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda path: _announces(path, _ENDLESS), "ends before a value"),
        (lambda path: _announces(path, _LONG), "ends before a value"),
        (lambda path: _announces(path, _DEEP), "is no whole GGUF file: .*recursion"),
        (lambda path: _announces(path, _MANY), "more than 20,000 values"),
        (_endless, "announces 1,000,000,000 blocks and holds"),
        (lambda path: path.write_bytes(b"GGUF"), "is no whole GGUF file"),
        (lambda path: path.write_bytes(b"a text, not weights"), "is no whole GGUF file"),
        (_truncated, "is no whole GGUF file"),
        (lambda path: save_gguf(path, "llama", leave_out="mlp.up_proj"), "it lacks model.layers.0"),
        (lambda path: save_gguf(path, "llama", kind="adapter"), "of the kind 'adapter'"),
        (lambda _: None, "no such file"),
    ],
)
def test_a_file_that_is_no_model_is_refused_in_one_line(
    tmp_path: Path, cache: Path, make: Any, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_header, "MOST_VALUES", 20_000)
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
