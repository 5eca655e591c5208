"""Reads what collect.py wrote: residuals by row, from shards on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from safetensors import SafetensorError, safe_open

from offswitch.analyses.analysis import Array
from offswitch.errors import UserError, in_one_line

INDEX: Final = "index.json"


@contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Within the block, a missing or unreadable file gets one line."""
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        reason = in_one_line(error)
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
    with naming_damage(folder / INDEX):
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    for name in sorted(index["shards"]):
        with naming_damage(folder / name), safe_open(folder / name, framework="numpy") as shard:
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
