"""Reading what collect.py wrote: residuals by row, from shards on disk; no model, no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from safetensors import SafetensorError, safe_open

from offswitch.analyses.analysis import Array
from offswitch.errors import UserError

INDEX: Final = "index.json"


@contextmanager
def damage_is_said(path: Path) -> Iterator[None]:
    """Within the block, a file that is missing or cannot be read is said in one line."""
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"{path} is missing or damaged ({reason}); run the probe stage again"
        ) from error


def read_rows(folder: Path, wanted: Sequence[int]) -> Array:
    """The residuals [M, L, D] of some rows, in the order asked; only their shards are opened.

    Raises:
        UserError: a row was not collected.
    """
    found: dict[int, Array] = {}
    need = set(wanted)
    for name in _shard_names(folder):
        with damage_is_said(folder / name), safe_open(folder / name, framework="numpy") as shard:
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
    with damage_is_said(folder / INDEX):
        content = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    return tuple(sorted(content["shards"]))
