"""What does the residual stream hold? Block outputs at chosen positions, streamed to disk.

Rows are read in shards of bounded size, each one safetensors file, so that memory does not grow
with their number; index.json, written after every shard, holds their hashes, and a run that was
interrupted goes on with the first shard that is missing or damaged. Shapes: N row, M position
(one or more a row), L block (0-based output), D d_model.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor

from offswitch.chat import pad, shared_prefix
from offswitch.errors import UserError
from offswitch.evaluate.scoring import by_length
from offswitch.hooks import record
from offswitch.merged import merged
from offswitch.model import Subject, arm_of, fingerprint, hidden
from offswitch.probe.analysis import Array
from offswitch.probe.shards import INDEX
from offswitch.progress import Tick, nothing
from offswitch.run import digest, file_hash, write_atomic

SHARD_BYTES: Final = 32_000_000

Row = Sequence[int]
Where = Callable[[Row], Sequence[int]]


def last_position(row: Row) -> Sequence[int]:
    """Where the reply is decided."""
    return (len(row) - 1,)


def every_position(row: Row) -> Sequence[int]:
    """All positions of a row."""
    return range(len(row))


def collect(
    subject: Subject,
    arm: str,
    rows: Sequence[Row],
    folder: Path,
    where: Where = last_position,
    batch_tokens: int = 4096,
    tick: Tick = nothing,
) -> Path:
    """Residuals of an arm at `where` in each row of ids; returns the folder's index.json.

    Each shard holds `resid` [M, L, D], float32, and `row` [M], whose row each position is.

    Raises:
        UserError: the folder holds a collection of something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places = [list(where(row)) for row in rows]
    index = _index(subject, arm, rows, places)
    done = _finished(folder, index)
    with arm_of(subject, arm), merged(subject), torch.inference_mode():
        for number, chosen in enumerate(_shards(subject, places)):
            name = f"{number:05d}.safetensors"
            if done.get(name) is None:
                part = _read(subject, rows, places, chosen, batch_tokens)
                _write(folder / name, part)
                index["shards"][name] = file_hash(folder / name)
                write_atomic(folder / INDEX, json.dumps(index, indent=1) + "\n")
            else:
                index["shards"][name] = done[name]
            tick(len(chosen))
    write_atomic(folder / INDEX, json.dumps(index, indent=1) + "\n")
    return folder / INDEX


def _shards(subject: Subject, places: Sequence[Sequence[int]]) -> Iterator[range]:
    """Consecutive rows whose residuals fit into a shard."""
    hidden_size = subject.causal_lm.config.get_text_config().hidden_size
    room = max(1, SHARD_BYTES // (4 * len(subject.blocks) * hidden_size))
    first = held = 0
    for row, positions in enumerate(places):
        if row > first and held + len(positions) > room:
            yield range(first, row)
            first, held = row, 0
        held += len(positions)
    if places:
        yield range(first, len(places))


def _read(
    subject: Subject,
    rows: Sequence[Row],
    places: Sequence[Sequence[int]],
    chosen: range,
    batch_tokens: int,
) -> dict[str, Array]:
    owner = np.repeat(np.array(chosen), [len(places[i]) for i in chosen])
    first = {row: int(np.searchsorted(owner, row)) for row in chosen}
    resid: Array | None = None
    for batch in by_length([rows[i] for i in chosen], batch_tokens):
        members = [chosen[i] for i in batch]
        part = _batch(subject, [rows[i] for i in members], [places[i] for i in members])
        if resid is None:
            resid = np.empty((len(owner), *part.shape[1:]), dtype=np.float32)
        at = 0
        for row in members:
            count = len(places[row])
            resid[first[row] : first[row] + count] = part[at : at + count]
            at += count
    return {"resid": resid if resid is not None else np.empty((0,)), "row": owner}


def _batch(subject: Subject, rows: Sequence[Row], places: Sequence[Sequence[int]]) -> Array:
    """Residuals [M, L, D] of one batch; the ids that all rows begin with are computed once."""
    earliest = min(min(positions) for positions in places)
    prefix = min(shared_prefix(rows), earliest) if len(rows) > 1 else 0
    line = torch.tensor([i for i, p in enumerate(places) for _ in p], device=subject.device)
    column = torch.tensor([c - prefix for p in places for c in p], device=subject.device)

    def keep(resid: Tensor) -> Tensor:
        # The pass over the shared prefix has one row; its positions are not asked for.
        return resid[line, column] if len(resid) == len(rows) else resid[:0, 0]

    with record(subject.blocks, keep) as seen:
        hidden(subject, torch.tensor(pad(rows), device=subject.device), prefix)
    stacked = torch.stack([seen[i] for i in range(len(seen))], dim=1)
    found: Array = stacked.float().cpu().numpy()
    return found


def _write(path: Path, tensors: dict[str, Array]) -> None:
    partial = path.with_name(f".{path.name}.part")
    save_file(tensors, partial)
    os.replace(partial, path)


def _index(
    subject: Subject, arm: str, rows: Sequence[Row], places: Sequence[Sequence[int]]
) -> dict[str, Any]:
    inputs = digest([[list(row), positions] for row, positions in zip(rows, places, strict=True)])
    facts = {"arm": arm, "model": fingerprint(subject), "rows": len(rows), "inputs": inputs}
    return {**facts, "shards": {}}


def _finished(folder: Path, index: dict[str, Any]) -> dict[str, str]:
    """Shards of an earlier try that are what they were."""
    if not (folder / INDEX).is_file():
        return {}
    earlier = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    if {**earlier, "shards": {}} != index:
        raise UserError(f"{folder} holds a collection of other rows, arm or model; delete it")
    kept: dict[str, str] = earlier["shards"]
    return {n: h for n, h in kept.items() if (folder / n).is_file() and file_hash(folder / n) == h}
