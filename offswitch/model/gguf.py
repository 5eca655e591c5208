"""GGUF files: unpacked once into the cache, as plain safetensors that load in a moment.

transformers reads the file; what is kept are the dequantised values in float32, four bytes a
weight.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any, Final

from offswitch.cache import holds_model
from offswitch.errors import UserError
from offswitch.files import require_room
from offswitch.progress import say

SUFFIX: Final = ".gguf"
_MARGIN: Final = 50_000_000  # bytes beside the weights: tokenizer, configuration


def unpack(source: Path, target: Path) -> Path:
    """A GGUF file's model as a folder, unpacked first where it is not there.

    Raises:
        UserError: the file is no whole model, is of a kind that transformers cannot read, or the
            cache cannot hold it.
    """
    if holds_model(target):
        return target
    size = _size(source)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"cannot write to {target.parent} ({error.strerror})"
        raise UserError(f"{reason}; set OFFSWITCH_CACHE to another folder") from error
    require_room(target.parent, size + _MARGIN)
    say(f"unpacking {source.name} into {target.parent}, once")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".unpack-") as scratch:
        _convert(source, Path(scratch) / "model")
        with contextlib.suppress(OSError):  # another process was first
            (Path(scratch) / "model").rename(target)
    if not holds_model(target):
        raise OSError(f"the converted model could not be moved to {target}")
    return target


def _size(source: Path) -> int:
    """The bytes that its weights take in float32."""
    from gguf import GGUFReader

    try:
        read = GGUFReader(source)
        size = 4 * sum(int(tensor.n_elements) for tensor in read.tensors)
        parts, kind = (
            field.contents() if (field := read.get_field(key)) else None
            for key in ("split.count", "general.type")
        )
    except (OSError, ValueError, IndexError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"model '{source}' is no whole GGUF file: {reason}") from error
    if (parts or 1) > 1:
        raise UserError(f"model '{source}' is one of {parts} parts; merge them into one file first")
    if (kind or "model") != "model":
        raise UserError(f"model '{source}' is of the kind '{kind}', not a whole model")
    return size


def _convert(source: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place: dict[str, Any] = {
        "pretrained_model_name_or_path": str(source.parent),
        "gguf_file": source.name,
    }
    load: Any = AutoModelForCausalLM.from_pretrained
    try:
        tokenizer = AutoTokenizer.from_pretrained(**place)
        network, report = load(**place, dtype=torch.float32, output_loading_info=True)
    except (ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"model '{source}' cannot be read: {reason}") from error
    if report["missing_keys"]:
        example = sorted(report["missing_keys"])[0]
        raise UserError(f"model '{source}' is incomplete: it lacks {example}")
    # save_pretrained refuses a model that still carries its quantizer.
    network.hf_quantizer = None
    del network.config.quantization_config
    network.save_pretrained(target)
    tokenizer.save_pretrained(target)
