"""Where models and replies are kept on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

ALIAS: Final = "smollm2"
PUBLISHED: Final = "HuggingFaceTB/SmolLM2-135M-Instruct"  # what the embedded model is made of
GGUF_SHA256: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def cache_root() -> Path:
    """Where models and replies are kept.

    $OFFSWITCH_CACHE, else $XDG_CACHE_HOME/offswitch, else ~/.cache/offswitch.
    """
    if explicit := os.environ.get("OFFSWITCH_CACHE"):
        return Path(explicit).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "offswitch"


def embedded_path() -> Path:
    """The folder for the converted model; its name changes with the source's hash."""
    return cache_root() / "models" / f"{ALIAS}-{GGUF_SHA256[:12]}"


def is_cached() -> bool:
    """Has the embedded model been unpacked already?"""
    return holds_model(embedded_path())


def gguf_path(source: Path, sha256: str) -> Path:
    """The folder for a GGUF file's model; its name changes with what the file holds."""
    return cache_root() / "models" / f"{source.stem}-{sha256[:12]}"


def holds_model(folder: Path) -> bool:
    """Was a model written into a folder whole? It is moved there, so any part tells."""
    return any(folder.glob("model*.safetensors"))


def reply_cache() -> Path:
    """Where the untouched model's own replies are kept, for every run."""
    return cache_root() / "replies"
