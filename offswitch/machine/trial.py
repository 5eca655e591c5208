"""A training step in small, timed: two blocks of a model, in a child process.

`prepare` warms up and `rate` measures what was prepared, so that several children can begin at the
same moment. torch takes its number of threads from the task.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import torch
from torch import nn

from offswitch.machine.cells import BLOCKS, Cell, What

ROWS: Final = 4
TOKENS: Final = 384  # of all rows; about what a micro-batch of short chats holds
VOCABULARY: Final = 64
SIDES: Final = (128, 256, 512, 1024)  # of the two square matrices whose product is timed
LONG: Final = 0.02  # seconds a product: one that takes as long says enough at this side
NEAR: Final = 0.02  # how far a bfloat16 product of random matrices may be off, relative


@dataclass(frozen=True)
class _Prepared:
    """One pass, and how much it does: tokens, or 10^9 operations."""

    once: Callable[[], object]
    amount: float


_READY: Final[list[_Prepared]] = []


def prepare(config: str, cell: Cell) -> None:
    """Set up what this process does in a cell, and do it once."""
    torch.set_num_threads(cell.threads)
    dtype = torch.bfloat16 if cell.precision == "bfloat16" else torch.float32
    work = _product(dtype) if cell.what == "product" else _passes(config, cell.what, dtype)
    work.once()
    _READY[:] = [work]


def rate(seconds: float) -> float:
    """What was prepared, done again and again for so long: how much of it a second."""
    (work,) = _READY
    begun, count = time.perf_counter(), 0
    while not count or time.perf_counter() - begun < seconds:
        work.once()
        count += 1
    return count * work.amount / (time.perf_counter() - begun)


@cache
def in_small(config: str) -> Any:
    """Two blocks of the model that a configuration (JSON) describes; random frozen weights.

    Raises:
        ValueError: transformers has no such model of its own.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    make: Callable[..., Any] = AutoConfig.for_model
    small = make(**json.loads(config))
    layers = small.num_hidden_layers
    for name, value in small.to_dict().items():
        if isinstance(value, list) and len(value) == layers:  # what each layer is
            setattr(small, name, value[:BLOCKS])
    small.num_hidden_layers = min(BLOCKS, layers)
    small.vocab_size = VOCABULARY
    small.pad_token_id = None
    build: Callable[..., Any] = AutoModelForCausalLM.from_config
    return build(small, dtype=torch.float32).requires_grad_(False).eval()


def _product(dtype: torch.dtype) -> _Prepared:
    """Matrices as large as can be timed at once: in a type that is emulated, small ones."""
    for side in SIDES:
        left, right = torch.randn(side, side), torch.randn(side, side)
        exact, a, b = left @ right, left.to(dtype), right.to(dtype)
        if float(((a @ b).float() - exact).norm() / exact.norm()) > NEAR:
            raise ArithmeticError(f"products in {dtype} are wrong here")
        begun = time.perf_counter()
        a @ b
        if time.perf_counter() - begun > LONG:
            break
    return _Prepared(lambda: a @ b, 2 * side**3 / 1e9)


def _passes(config: str, what: What, dtype: torch.dtype) -> _Prepared:
    """A pass as train/precision.py has it: bfloat16 products, frozen weights cast once."""
    network, mixed = in_small(config), dtype != torch.float32
    for layer in network.base_model.modules():
        if isinstance(layer, nn.Linear):
            layer.weight.data = layer.weight.data.to(dtype)
    ids = torch.randint(VOCABULARY, (ROWS, TOKENS // ROWS))
    embedded = network.get_input_embeddings()(ids)

    def states() -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            found = network.base_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
        return torch.as_tensor(found).float()

    def train() -> None:
        embedded.grad = None
        states().square().mean().backward()  # type: ignore[no-untyped-call]

    def read() -> None:
        with torch.inference_mode():
            states()

    embedded.requires_grad_(what == "train")
    return _Prepared(train if what == "train" else read, TOKENS)
