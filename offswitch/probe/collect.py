"""Block outputs at chosen positions, streamed to disk in shards.

Rows are read in shards of bounded size, each one safetensors file, so that memory does not grow
with their number; index.json, written after every shard, holds their hashes, and a run that was
interrupted goes on with the first shard that is missing or damaged. Shapes: N row, M position
(one or more a row), L block (0-based output), D d_model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor

from offswitch.analyses.analysis import Array
from offswitch.analyses.shards import INDEX
from offswitch.errors import UserError
from offswitch.files import digest, file_hash, read_sealed, replacing, write_sealed
from offswitch.model.adapters import arm_of
from offswitch.model.forward import hidden
from offswitch.model.hooks import record
from offswitch.model.merged import merged
from offswitch.model.prefix_tree import takes_trees, tree_states, trees
from offswitch.model.rows import by_length
from offswitch.model.subject import Subject
from offswitch.progress import Tick, nothing
from offswitch.prompts.encode import pad, shared_prefix

SHARD_BYTES: Final = 32_000_000

Row = Sequence[int]
Where = Callable[[Row], Sequence[int]]
Places = Sequence[Sequence[int]]
Parts = Iterator[tuple[list[int], Array]]


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
    inputs = digest([[list(row), positions] for row, positions in zip(rows, places, strict=True)])
    index: dict[str, Any] = {
        "arm": arm, "model": subject.published, "rows": len(rows), "inputs": inputs,
        "shards": {},
    }  # fmt: skip
    done = _finished(folder, index)
    with arm_of(subject, arm), merged(subject), torch.inference_mode():
        for number, chosen in enumerate(_shards(subject, places)):
            name = f"{number:05d}.safetensors"
            if done.get(name) is None:
                part = _read(subject, rows, places, chosen, batch_tokens)
                with replacing(folder / name) as scratch:
                    save_file(part, scratch)
                index["shards"][name] = file_hash(folder / name)
                write_sealed(folder / INDEX, index)
            else:
                index["shards"][name] = done[name]
            tick(len(chosen))
    write_sealed(folder / INDEX, index)
    return folder / INDEX


def _shards(subject: Subject, places: Places) -> Iterator[range]:
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
    subject: Subject, rows: Sequence[Row], places: Places, chosen: range, batch_tokens: int
) -> dict[str, Array]:
    """One shard: residuals in the order of the rows, though they are read in another."""
    some, where = [rows[i] for i in chosen], [places[i] for i in chosen]
    read = _by_tree if takes_trees(subject, max(map(len, some))) else _by_length
    members, parts = zip(*read(subject, some, where, batch_tokens), strict=True)
    order = [row for rows_of_part in members for row in rows_of_part]
    owner = np.repeat(order, [len(where[row]) for row in order])
    sorting = np.argsort(owner, kind="stable")
    return {"resid": np.concatenate(parts)[sorting], "row": owner[sorting] + chosen.start}


def _by_tree(subject: Subject, rows: Sequence[Row], places: Places, batch_tokens: int) -> Parts:
    """Rows and their residuals [M, L, D], some at a time; ids that rows share are computed once."""
    for tree in trees(rows, batch_tokens):
        nodes = [path[p] for i, path in zip(tree.rows, tree.paths, strict=True) for p in places[i]]
        at = torch.tensor(nodes, device=subject.device)

        def keep(resid: Tensor, at: Tensor = at) -> Tensor:
            return resid[0, at]

        with record(subject.blocks, keep) as seen:
            tree_states(subject, tree)
        yield list(tree.rows), _stacked(seen)


def _by_length(subject: Subject, rows: Sequence[Row], places: Places, batch_tokens: int) -> Parts:
    """The same in batches by length; the ids that all rows of one begin with are computed once."""
    for members in by_length(rows, batch_tokens):
        some, where = [rows[i] for i in members], [places[i] for i in members]
        earliest = min(min(positions) for positions in where)
        shares = len(some) > 1 and subject.shares(max(map(len, some)))
        prefix = min(shared_prefix(some), earliest) if shares else 0
        line = torch.tensor([i for i, p in enumerate(where) for _ in p], device=subject.device)
        column = torch.tensor([c - prefix for p in where for c in p], device=subject.device)

        def keep(
            resid: Tensor, line: Tensor = line, column: Tensor = column, count: int = len(some)
        ) -> Tensor:
            # The pass over the shared prefix has one row; its positions are not asked for.
            return resid[line, column] if len(resid) == count else resid[:0, 0]

        with record(subject.blocks, keep) as seen:
            hidden(subject, torch.tensor(pad(some), device=subject.device), prefix)
        yield members, _stacked(seen)


def _stacked(seen: Mapping[int, Tensor]) -> Array:
    found: Array = torch.stack([seen[i] for i in range(len(seen))], dim=1).float().cpu().numpy()
    return found


def _finished(folder: Path, index: dict[str, Any]) -> dict[str, str]:
    """Shards of an earlier try that are what they were."""
    if (earlier := read_sealed(folder / INDEX)) is None:
        return {}
    if {**earlier, "shards": {}} != index:
        raise UserError(f"{folder} holds a collection of other rows, arm or model; delete it")
    kept: dict[str, str] = earlier["shards"]
    return {n: h for n, h in kept.items() if (folder / n).is_file() and file_hash(folder / n) == h}
