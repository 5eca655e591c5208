"""Reading what collect.py wrote: residuals by row, from shards on disk; no model, no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from safetensors import safe_open

from offswitch.errors import UserError
from offswitch.probe.analysis import Array

INDEX: Final = "index.json"


def read_rows(folder: Path, wanted: Sequence[int]) -> Array:
    """The residuals [M, L, D] of some rows, in the order asked; only their shards are opened.

    Raises:
        UserError: a row was not collected.
    """
    found: dict[int, Array] = {}
    need = set(wanted)
    for name in _shard_names(folder):
        with safe_open(folder / name, framework="numpy") as shard:
            owner = shard.get_tensor("row")
            if need.isdisjoint(owner.tolist()):
                continue
            resid = shard.get_slice("resid")
            for row in need.intersection(owner.tolist()):
                at = np.flatnonzero(owner == row)
                found[row] = resid[int(at[0]) : int(at[-1]) + 1]
    if missing := need - found.keys():
        raise UserError(f"{folder}: row {min(missing)} was not collected")
    return np.concatenate([found[row] for row in wanted])


def _shard_names(folder: Path) -> tuple[str, ...]:
    content = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    return tuple(sorted(content["shards"]))
