"""Keys and values of the rows that are being written now, at fixed places in memory.

transformers' own cache grows by copying itself at every token and keeps the rows that have ended.
Here a row has a slot: `width` columns for its prompt, then `length` columns in which every row
writes its new tokens at the same place, a ring: a column comes round again only when no live row
has anything in it. Which columns a row may see is said by a mask, where they lie does not matter:
keys carry their position. Live rows are slots 0 to `live` - 1.

Shapes: R row, C column (`width` + `length`), D d_model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from offswitch.model.forward import embed
from offswitch.model.subject import Subject
from offswitch.prompts.encode import pad


@dataclass
class Place:
    """Where the pass that runs now writes (rows, first column), and up to where it reads."""

    rows: slice
    start: int
    stop: int


class SlotLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer's keys and values [R, head, C, D of a head], written in place."""

    keys: Tensor
    values: Tensor

    def __init__(self, rows: int, columns: int, place: Place) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.size, self.place = (rows, columns), place

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Zeros: a masked column counts zero times, and zero times garbage may be no number."""
        rows, columns = self.size
        self.keys, self.values = (
            states.new_zeros(rows, states.shape[1], columns, states.shape[3])
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Write at the place, and give what its rows may look at."""
        self.write(key_states, value_states, self.place.start)
        rows, stop = self.place.rows, self.place.stop
        return self.keys[rows, :, :stop], self.values[rows, :, :stop]

    def write(self, keys: Tensor, values: Tensor, start: int) -> None:
        """Write from a column on; one row is written into every row of the place."""
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        columns = slice(start, start + keys.shape[2])
        self.keys[self.place.rows, :, columns] = keys
        self.values[self.place.rows, :, columns] = values

    def get_seq_length(self) -> int:
        """Columns before those that the pass writes."""
        return self.place.start


class Slots:
    """Rows being written by the arm that is on: prompts come in, tokens go on, ended rows leave."""

    def __init__(self, subject: Subject, rows: int, width: int, length: int) -> None:
        self.subject, self.width, self.length = subject, width, length
        self.rows, self.live, self.clock = rows, 0, 0
        self.place = Place(slice(0, 0), 0, 0)
        count = subject.causal_lm.config.get_text_config().num_hidden_layers
        layers = [SlotLayer(rows, width + length, self.place) for _ in range(count)]
        self.layers, self.cache = layers, Cache(layers=list(layers))
        self.positions = torch.zeros(rows, dtype=torch.long, device=subject.device)
        dtype = subject.causal_lm.get_input_embeddings().weight.dtype
        self.hidden = torch.finfo(dtype).min
        self.mask = torch.full((rows, width + length), self.hidden, dtype=dtype)
        self.mask = self.mask.to(subject.device)
        self.known: tuple[tuple[int, ...], list[tuple[Tensor, Tensor]]] = ((), [])

    def admit(self, prompts: Sequence[Sequence[int]], shared: tuple[int, ...]) -> Tensor:
        """Read prompts that begin with the shared ids; normed states [R, D] of their last ids.

        What is shared is computed once, and again only after prompts that share something else.
        """
        skip, first = len(shared), self.live
        if shared != self.known[0]:
            self.known = (shared, self._compute(shared))
        lengths = torch.tensor([len(p) for p in prompts], device=self.subject.device)
        ids = torch.tensor(pad([p[skip:] for p in prompts]), device=self.subject.device)
        self._set(slice(first, first + len(prompts)), skip, skip + ids.shape[1])
        for layer, (keys, values) in zip(self.layers, self.known[1], strict=False):
            layer.write(keys, values, 0)
        at = torch.arange(skip, skip + ids.shape[1], device=ids.device)
        seen = torch.arange(self.place.stop, device=ids.device) <= at[:, None]
        states = self._pass(ids, at[None], self._hide(seen)[None, None])
        columns = torch.arange(self.width + self.length, device=ids.device)
        self.mask[self.place.rows] = self._hide(columns < lengths[:, None])
        self.positions[self.place.rows] = lengths
        self.live += len(prompts)
        return states[torch.arange(len(prompts), device=ids.device), lengths - 1 - skip]

    def step(self, tokens: Tensor) -> Tensor:
        """Read one new token [R] of each live row; normed states [R, D] there."""
        turn = self.clock % self.length
        column = self.width + turn
        filled = self.length if self.clock >= self.length else turn + 1
        rows = slice(0, self.live)
        self._set(rows, column, self.width + filled)
        self.mask[rows, column] = 0
        mask = self.mask[rows, None, None, : self.place.stop]
        states = self._pass(tokens[:, None], self.positions[rows, None], mask)
        self.positions[rows] += 1
        self.clock += 1
        return states[:, 0]

    def drop(self, ended: Sequence[int]) -> list[int]:
        """Let rows leave; gives, for each slot that is live after it, the slot it was before."""
        gone = set(ended)
        order = list(range(self.live - len(gone)))
        movers = [i for i in range(len(order), self.live) if i not in gone]
        for hole, mover in zip(sorted(i for i in gone if i < len(order)), movers, strict=True):
            order[hole] = mover
        holes = [i for i, source in enumerate(order) if i != source]
        if holes:
            self._move(holes, [order[i] for i in holes])
        self.live = len(order)
        return order

    def _compute(self, ids: tuple[int, ...]) -> list[tuple[Tensor, Tensor]]:
        """Keys and values [1, head, position, D of a head] of the ids, by layer."""
        if not ids:
            return []
        embedded = embed(self.subject, torch.tensor([ids], device=self.subject.device))
        past = self.subject.backbone(inputs_embeds=embedded, use_cache=True).past_key_values
        return [(layer.keys, layer.values) for layer in past.layers]

    def _set(self, rows: slice, start: int, stop: int) -> None:
        self.place.rows, self.place.start, self.place.stop = rows, start, stop

    def _hide(self, seen: Tensor) -> Tensor:
        return torch.where(seen, 0.0, self.hidden).to(self.mask.dtype)

    def _pass(self, ids: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = self.subject.backbone(
            inputs_embeds=embed(self.subject, ids),
            position_ids=positions,
            attention_mask=mask,
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        return states

    def _move(self, holes: Sequence[int], movers: Sequence[int]) -> None:
        into, source = (torch.tensor(i, device=self.mask.device) for i in (holes, movers))
        tables = [self.positions, self.mask]
        tables += [t for layer in self.layers if layer.is_initialized for t in _tables(layer)]
        for table in tables:
            table[into] = table[source]


def _tables(layer: SlotLayer) -> tuple[Tensor, Tensor]:
    return layer.keys, layer.values
