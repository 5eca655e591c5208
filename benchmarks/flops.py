"""How many operations does the work itself need? Counted by formula from the model's shape.

A multiplication and an addition are two operations. A token through a weight of n entries takes 2n
forward and 2n backward to its input; a trained weight takes 2n more for its own gradient. A query
over k keys takes 4 k d forward (scores, values; d: heads x head size) and twice that backward. What
is needed: each row's ids but its last once through every block, ids that a whole batch begins with
once a batch, the vocabulary at supervised positions only. Norms, activations and the optimiser are
left out (below 2 %), and so is what a peer computes beyond need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from offswitch.prompts.encode import shared_prefix


@dataclass(frozen=True)
class Shape:
    """What the count needs of a Llama-like model (three feed-forward matrices a block)."""

    blocks: int
    d_model: int
    d_query: int
    d_key: int
    d_hidden: int
    vocabulary: int

    @property
    def attention(self) -> int:
        """Entries of the four projections of one block."""
        return 2 * self.d_model * (self.d_query + self.d_key)

    @property
    def feed_forward(self) -> int:
        """Entries of the three feed-forward matrices of one block."""
        return 3 * self.d_model * self.d_hidden

    def adapter(self, rank: int) -> int:
        """Entries that LoRA of a rank adds to the four projections of one block."""
        return 2 * rank * (2 * self.d_model + self.d_query + self.d_key)


@dataclass(frozen=True)
class Counted:
    """Positions, causal pairs of query and key, and supervised positions."""

    positions: int
    pairs: int
    supervised: int


def shape_of(config: Any) -> Shape:
    """The shape of a Llama-like transformers config."""
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    keys = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return Shape(
        config.num_hidden_layers,
        config.hidden_size,
        size * config.num_attention_heads,
        size * keys,
        config.intermediate_size,
        config.vocab_size,
    )


def count_batch(rows: Sequence[Sequence[int]], starts: Sequence[int]) -> Counted:
    """What one batch needs; ids from `starts` on are predicted, a row's last id is not read."""
    prefix = min(shared_prefix(rows), min(starts) - 1)
    lengths = [len(row) - 1 for row in rows]
    triangle = prefix * (prefix + 1) // 2
    return Counted(
        prefix + sum(n - prefix for n in lengths),
        triangle + sum(n * (n + 1) // 2 - triangle for n in lengths),
        sum(len(row) - start for row, start in zip(rows, starts, strict=True)),
    )


def forward(shape: Shape, counted: Counted, rank: int = 0) -> float:
    """Operations of one forward pass; `rank`: of the adapter, 0 without."""
    weights = shape.attention + shape.feed_forward + shape.adapter(rank)
    blocks = 2.0 * weights * counted.positions + 4.0 * shape.d_query * counted.pairs
    return shape.blocks * blocks + 2.0 * shape.d_model * shape.vocabulary * counted.supervised


def training_step(shape: Shape, counted: Counted, rank: int) -> float:
    """Operations of one LoRA step: forward, backward to inputs, gradients of the adapter.

    The embeddings are frozen, so nothing goes back beyond the first block's query, key and value.
    """
    adapter = 2.0 * shape.blocks * shape.adapter(rank) * counted.positions
    first = shape.d_model * (shape.d_query + 2 * shape.d_key + 3 * rank)
    once = forward(shape, counted, rank)
    attention = 4.0 * shape.blocks * shape.d_query * counted.pairs  # backward it counts twice
    return 2 * once + attention + adapter - 2.0 * first * counted.positions
