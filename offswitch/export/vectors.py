"""What the probes chose, as safetensors and as a llama.cpp control vector."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import gguf
import numpy as np
from safetensors.numpy import save

from offswitch.analyses.directions import FILE, load_directions
from offswitch.files import replacing, write_atomic
from offswitch.talk.steering import Steering, described, settled

CONTROL: Final = "control_vector.gguf"
HOOK: Final = "residual stream, output of the block"


@dataclass(frozen=True)
class Chosen:
    """The direction that did most on fit questions; `layer` counts blocks from 0."""

    direction: str
    layer: int
    scale: float
    words: str
    control: bool


def write_directions(source: Path, folder: Path, base: str, architecture: str) -> Chosen:
    """Write every stored direction [L, D], and the chosen one as a control vector.

    llama.cpp has no vector for block 0: `control` is then false, and no such file is written. It
    adds a vector at every position, where the probe adds at the prompt's last alone.

    Raises:
        UserError: the file holds no directions, or none that can be used.
    """
    directions, facts = load_directions(source)
    steering = settled(directions, facts, Steering("add"))
    name, block = str(steering.direction), int(steering.block or 0)
    scale = float(steering.scale or 0)
    told = {"operation": "add", "hook": HOOK, "layer": str(block), "direction": name,
            "scale": f"{scale:g}", "position": "the prompt's last"}  # fmt: skip
    own = replace(facts, model=base)
    tensors = {key: rows.astype(np.float32) for key, rows in directions.items()}
    metadata = told | {"offswitch": json.dumps(asdict(own), ensure_ascii=False)}
    write_atomic(folder / FILE, _in_order(save(tensors, metadata)))
    if block > 0:
        told["position"] = "every one: llama.cpp has no other"
        with replacing(folder / CONTROL) as scratch:
            writer = gguf.GGUFWriter(scratch, "controlvector")
            writer.add_string("controlvector.model_hint", architecture)
            writer.add_uint32("controlvector.layer_count", 1)
            for key, value in told.items():
                writer.add_string(f"offswitch.{key}", value)
            vector = (scale * tensors[name][block]).astype(np.float32)
            writer.add_tensor(f"direction.{block}", vector)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
    return Chosen(name, block, scale, described(steering), block > 0)


def _in_order(content: bytes) -> bytes:
    """A safetensors file with its metadata by name: the library's own order differs each time."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)  # tensors begin at a multiple of eight
    return len(text).to_bytes(8, "little") + text + content[start:]
