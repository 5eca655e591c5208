"""Where weights come from: the embedded model, a folder, a GGUF file, or the hub."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from offswitch.cache import ALIAS, GGUF_SHA256, gguf_path
from offswitch.errors import UserError, readable
from offswitch.files import digest, file_hash
from offswitch.model.embedded import fetch_embedded
from offswitch.model.gguf import SUFFIX, unpack
from offswitch.model.hub import on_hub

TOKENIZER: Final = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                    "added_tokens.json", "chat_template.jinja", "vocab.json", "merges.txt",
                    "tokenizer.model")  # fmt: skip
MOST_BLOCKS: Final = 10_000  # some fifty times the deepest model there is
_KINDS: Final = (".safetensors", ".json", ".jinja", ".model", ".txt")


def source_of_model(name: str) -> dict[str, Any]:
    """The arguments with which `from_pretrained` finds a recipe's model.

    Raises:
        UserError: it is neither embedded, nor a folder with a model, a GGUF file, or on the hub.
    """
    folder = fetch_embedded() if name == ALIAS else _here(name, "model ")
    if folder:
        if not (folder / "config.json").is_file():
            raise UserError(f"model '{name}': the folder holds no config.json")
        return {"pretrained_model_name_or_path": str(folder)}
    repository, _, revision = name.partition("@")
    return on_hub(repository, revision or None)


def config_of(told: str, source: Mapping[str, Any]) -> Any:
    """A model's configuration, before anything is built of it; `source` is where it lies.

    Raises:
        UserError: it cannot be read, or announces more blocks than anyone could build.
    """
    from transformers import AutoConfig

    with readable(told):
        config: Any = AutoConfig.from_pretrained(**source)
        blocks = int(getattr(config.get_text_config(), "num_hidden_layers", None) or 0)
    if blocks > MOST_BLOCKS:
        raise UserError(f"{told}: its configuration announces {blocks:,} blocks")
    return config


@functools.cache  # a hub is asked once, though loading, bringing and examining all want it
def located(name: str, first: str) -> Path:
    """The folder of weights that were trained elsewhere; from the hub, its copy in the cache.

    `first` is a file that must be there.

    Raises:
        UserError: it is neither a folder, nor a GGUF file, nor on the hub.
    """
    if folder := _here(name):
        return folder
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    found = on_hub(repository, revision or None, first)
    return Path(
        snapshot_download(
            repository,
            revision=revision or None,
            local_files_only=found.get("local_files_only", False),
            allow_patterns=["*.json", "*.jinja", "*.safetensors", *TOKENIZER],
        )
    )


def identity(name: str) -> str:
    """What tells one model from another, its tokenizer and chat format too, without loading it."""
    if name == ALIAS:
        return GGUF_SHA256
    place = Path(name).expanduser()
    if place.is_file():
        return _hash_of(place)
    if not place.is_dir():
        return name
    files = sorted(path for path in place.iterdir() if path.suffix in _KINDS)
    return digest({path.name: _hash_of(path) for path in files})


def _here(name: str, what: str = "") -> Path | None:
    """The folder on this machine that a name stands for; None of what the hub may have."""
    place = Path(name).expanduser()
    if place.is_dir():
        return place
    if place.suffix.lower() == SUFFIX:
        if not place.is_file():
            raise UserError(f"{what}'{name}': no such file")
        return unpack(place, gguf_path(place, _hash_of(place)))
    if name.startswith((".", "/", "~")):
        raise UserError(f"{what}'{name}': no such folder")
    return None


def _hash_of(path: Path) -> str:
    """The file's hash, taken once a process: gigabytes take seconds, and every stage asks."""
    return _hashed(path, path.stat().st_size, path.stat().st_mtime_ns)


@functools.cache
def _hashed(path: Path, _size: int, _changed: int) -> str:
    return file_hash(path)
