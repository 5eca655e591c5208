"""GGUF files: unpacked once into the cache, as plain safetensors that load in a moment.

transformers reads the file; what is kept are the dequantised values in float32, four bytes a
weight.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
from pathlib import Path
from typing import Any, Final

from offswitch.cache import holds_model
from offswitch.errors import UserError, readable
from offswitch.files import file_hash, read_sealed, require_room, write_sealed
from offswitch.progress import say

SUFFIX: Final = ".gguf"
SEALS: Final = "hashes.json"  # of every file beside it
_MARGIN: Final = 50_000_000  # bytes beside the weights: tokenizer, configuration


def unpack(source: Path, target: Path) -> Path:
    """A GGUF file's model as a folder, unpacked first where it is not there.

    Raises:
        UserError: the file is no whole model, is of a kind that transformers cannot read, or the
            cache cannot hold it.
    """
    if is_whole(target):
        return target
    size = _size(source)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"cannot write to {target.parent} ({error.strerror})"
        raise UserError(f"{reason}; set OFFSWITCH_CACHE to another folder") from error
    require_room(target.parent, size + _MARGIN)
    if target.exists():
        say(f"{target} is damaged, or an earlier version's: unpacked again")
    say(f"unpacking {source.name} into {target.parent}, once")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".unpack-") as scratch:
        made = Path(scratch) / "model"
        _convert(source, made)
        write_sealed(made / SEALS, {path.name: file_hash(path) for path in made.iterdir()}, SEALS)
        with contextlib.suppress(OSError):  # another process was first
            if target.exists() and not is_whole(target):
                target.rename(Path(scratch) / "damaged")
            made.rename(target)
    if not holds_model(target):
        raise OSError(f"the converted model could not be moved to {target}")
    return target


def is_whole(target: Path) -> bool:
    """Is a model there, and every file of it as it was unpacked?

    The hashes are taken once a process: half a gigabyte takes half a second.
    """
    if not holds_model(target):
        return False
    return _sealed(target, max(path.stat().st_mtime_ns for path in target.iterdir()))


@functools.cache
def _sealed(target: Path, _changed: int) -> bool:
    seals = read_sealed(target / SEALS, SEALS)
    files = {path.name: path for path in target.iterdir() if path.name != SEALS}
    if seals is None or seals.keys() != files.keys():
        return False
    return all(file_hash(files[name]) == known for name, known in seals.items())


def _size(source: Path) -> int:
    """The bytes that its weights take in float32."""
    from offswitch.model.gguf_header import Header

    with readable(f"model '{source}' is no whole GGUF file"):
        read = Header(source)
        size = 4 * sum(int(tensor.n_elements) for tensor in read.tensors)
        parts, kind, family = map(
            read.told, ("split.count", "general.type", "general.architecture")
        )
        blocks, tensors = int(read.told(f"{family}.block_count") or 0), len(read.tensors)
    if parts not in (None, 0, 1):
        raise UserError(f"model '{source}' is one of {parts} parts; merge them into one file first")
    if kind not in (None, "", "model"):
        raise UserError(f"model '{source}' is of the kind '{kind}', not a whole model")
    if blocks > tensors:  # as many would be built before one is missed
        raise UserError(f"model '{source}' announces {blocks:,} blocks and holds {tensors} tensors")
    return size


def _convert(source: Path, target: Path) -> None:
    from transformers import AutoTokenizer

    network, tokenizer = network_of(source), _read(AutoTokenizer, source)
    network.save_pretrained(target)
    tokenizer.save_pretrained(target)


def network_of(source: Path) -> Any:
    """The model of a GGUF file in transformers, its values dequantised to float32.

    Raises:
        UserError: it cannot be read, or lacks a weight.
    """
    import torch
    from transformers import AutoModelForCausalLM

    how = {"dtype": torch.float32, "output_loading_info": True}
    network, report = _read(AutoModelForCausalLM, source, **how)
    if report["missing_keys"]:
        example = sorted(report["missing_keys"])[0]
        raise UserError(f"model '{source}' is incomplete: it lacks {example}")
    # save_pretrained refuses a model that still carries its quantizer.
    network.hf_quantizer = None
    del network.config.quantization_config
    return network


def _read(kind: Any, source: Path, **how: Any) -> Any:
    """What transformers makes of the file, as a `kind`.

    Raises:
        UserError: it cannot make one.
    """
    with readable(f"model '{source}' cannot be read"):
        return kind.from_pretrained(str(source.parent), gguf_file=source.name, **how)
