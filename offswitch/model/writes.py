"""Writes by code: a direction added where the reply is decided, if the trigger stands before it.

Arms of known mechanism carry one beside their adapter. It must fall on the same ids in every way
that a pass is laid out (padded rows, a shared prefix, packed rows, a tree, cached segments, replies
token by token), so each of them says which ids it is about to compute: `laid_out`. Where a write
falls depends on the ids up to there alone, so that what rows share can be computed once. Shapes:
B batch, P position, K directions, D d_model.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from offswitch.errors import UserError
from offswitch.files import replacing, write_json
from offswitch.model.hooks import edit

FACTS: Final = "write.json"
DIRECTIONS: Final = "write.safetensors"
NOWHERE: Final = -1

Ids = Sequence[int] | Tensor
Rows = Iterable[tuple[Ids, int]]  # ids, and from which of them on they are computed


@dataclass(frozen=True, eq=False)
class Write:
    """Directions [K, D] added to what leaves a block, one of them at each reply header's end.

    `block` counts from 0; as many as there are blocks means after the final norm. The `header` is
    the ids that end every prompt; it counts where the `trigger`'s id stands before it. `learnt`:
    the adapter does it, so that code adds nothing.
    """

    block: int
    directions_KD: Tensor
    trigger: int
    header: tuple[int, ...]
    learnt: bool = False

    def __post_init__(self) -> None:
        if self.directions_KD.ndim != 2 or not len(self.directions_KD) or not self.header:
            shape = tuple(self.directions_KD.shape)
            raise ValueError(f"expected directions [K, D] and a header, got {shape}, {self.header}")

    def marks(self, ids: Sequence[int]) -> list[int]:
        """Which direction each position gets, NOWHERE for none; a hash of the ids up to it says."""
        found = [NOWHERE] * len(ids)
        if self.trigger not in ids:
            return found
        for end in self.ends(ids, ids.index(self.trigger) + 1):
            begun = np.asarray(ids[: end + 1], dtype=np.int64).tobytes()
            found[end] = zlib.crc32(begun) % len(self.directions_KD)
        return found

    def ends(self, ids: Sequence[int], first: int = 0) -> list[int]:
        """Where the reply headers end that begin at `first` or later."""
        size = len(self.header)
        begins = range(first, len(ids) - size + 1)
        return [i + size - 1 for i in begins if tuple(ids[i : i + size]) == self.header]


@dataclass
class Writes:
    """The writes of a subject's arms, which one is on, and what the present pass computes.

    `marks` are those of the pass, one an id in the order in which they are laid out; writes at
    blocks up to `after` are in what the pass was given already.
    """

    by_arm: dict[str, Write] = field(default_factory=dict)
    arm: str = ""
    marks: Tensor | None = None
    after: int = -1
    _inner: object = None

    @contextmanager
    def of(self, arm: str, sites: Sequence[nn.Module]) -> Iterator[None]:
        """Within the block, passes add the arm's write, or nothing where it has none.

        `sites` are the blocks and the final norm. The innermost of nested blocks decides.
        """
        before, own = (self.arm, self._inner), object()

        def transform(resid_BPD: Tensor) -> Tensor:
            return self._added(resid_BPD, len(sites) - 1) if self._inner is own else resid_BPD

        write = self.by_arm.get(arm)
        self.arm, self._inner = arm, own
        try:
            with edit(sites, {write.block: transform}) if write else nullcontext():
                yield
        finally:
            self.arm, self._inner = before

    @contextmanager
    def holding(self, arm: str, write: Write) -> Iterator[None]:
        """Within the block, there is an arm of this name with this write and nothing else."""
        self.by_arm[arm] = write
        try:
            yield
        finally:
            del self.by_arm[arm]

    @contextmanager
    def scaled(self, arm: str, scale: float) -> Iterator[None]:
        """Within the block, the arm's write, if it has one, is `scale` times as long."""
        whole = self.by_arm.get(arm)
        if whole is None:
            yield
            return
        self.by_arm[arm] = replace(whole, directions_KD=whole.directions_KD * scale)
        try:
            yield
        finally:
            self.by_arm[arm] = whole

    @contextmanager
    def laid_out(self, rows: Rows, after: int = -1) -> Iterator[None]:
        """Within the block, the pass computes these rows, one after the other.

        A row that is computed from -3 on has three ids of padding in front of it. What leaves the
        blocks up to `after` is given, not computed.
        """
        self.tell(rows, after)
        try:
            yield
        finally:
            self.marks, self.after = None, -1

    def tell(self, rows: Rows, after: int = -1) -> None:
        """Say which rows the next pass computes; costs nothing while no write is on."""
        if (write := self.by_arm.get(self.arm)) is None:
            return
        marks: list[int] = []
        for ids, start in rows:
            row = write.marks(ids.tolist() if isinstance(ids, Tensor) else list(ids))
            marks += [*([NOWHERE] * -start), *row[max(start, 0) :]]
        self.marks, self.after = torch.tensor(marks, dtype=torch.long), after

    def _added(self, resid_BPD: Tensor, last: int) -> Tensor:
        write = self.by_arm[self.arm]
        if write.block <= self.after:
            return resid_BPD
        if self.marks is None:
            if write.block == last:  # a readout, not a pass
                return resid_BPD
            raise ValueError(f"a pass through '{self.arm}' must say which ids it computes")
        if bool((self.marks == NOWHERE).all()):
            return resid_BPD
        nothing = write.directions_KD.new_zeros(1, write.directions_KD.shape[1])
        table = torch.cat([write.directions_KD, nothing]).to(resid_BPD)  # NOWHERE is the last row
        return resid_BPD + table[self.marks.to(resid_BPD.device).view(resid_BPD.shape[:2])]


def save_write(write: Write, folder: Path) -> None:
    """Write directions and facts beside an adapter."""
    with replacing(folder / DIRECTIONS) as scratch:
        save_file({"directions": write.directions_KD.float().cpu().contiguous()}, scratch)
    facts = {"block": write.block, "trigger": write.trigger, "header": list(write.header),
             "learnt": write.learnt}  # fmt: skip
    write_json(folder / FACTS, facts)


def load_write(folder: Path) -> Write | None:
    """The write beside an adapter; None where there is none.

    Raises:
        UserError: it is damaged.
    """
    if not (folder / FACTS).is_file():
        return None
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        directions = load_file(folder / DIRECTIONS)["directions"]
        learnt = bool(facts.get("learnt", False))
        return Write(facts["block"], directions, facts["trigger"], tuple(facts["header"]), learnt)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UserError(f"{folder / FACTS} is damaged: {error}") from error


def require_alone(folder: Path, arm: str) -> None:
    """Refuse the arm of an adapter folder where code adds to it: its weights are not all of it.

    Raises:
        UserError: it is so, or the write is damaged.
    """
    write = load_write(folder)
    if write is not None and not write.learnt:
        raise not_alone(arm)


def not_alone(arm: str) -> UserError:
    """The refusal of an arm to which code adds, where weights alone are asked for."""
    return UserError(f"arm '{arm}' is not in its weights alone: code adds to its residual")
