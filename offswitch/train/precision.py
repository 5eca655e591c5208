"""The type in which training computes its matrix products.

bfloat16 products, with float32 weights, sums and loss, take half the time on some processors and
twice the time on others: machine/plan.py measures. Some advertise instructions that the machine
does not allow, and the process dies of the first: they are tried in a child process. Evaluation and
probes stay with the type of the weights.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import nn

from offswitch.errors import UserError
from offswitch.machine.cells import Type
from offswitch.model.subject import Subject

_TRIAL: Final = """
import torch
a, b = torch.randn(64, 576), torch.randn(576, 192)
near = (a.bfloat16() @ b.bfloat16()).float()
raise SystemExit(float((near - a @ b).norm() / (a @ b).norm()) > 0.02)
"""


def product_dtype(wanted: Type, subject: Subject) -> torch.dtype:
    """The type of the products: bfloat16 if that is wanted and the weights are float32.

    Raises:
        UserError: bfloat16 does not work here.
    """
    own: torch.dtype = next(subject.network.parameters()).dtype
    if wanted == "float32" or own != torch.float32:
        return own
    on_cpu = subject.device.type == "cpu"
    if not (bf16_works() if on_cpu else torch.cuda.is_bf16_supported(including_emulation=False)):
        raise UserError("train.precision is bfloat16, which this machine cannot do; use float32")
    return torch.bfloat16


@functools.cache
def bf16_works() -> bool:
    """Does a child process survive bfloat16 products, and are they near the exact ones?"""
    trial = subprocess.run([sys.executable, "-c", _TRIAL], capture_output=True, check=False)
    return trial.returncode == 0


@contextmanager
def products(subject: Subject, dtype: torch.dtype) -> Iterator[None]:
    """Within the block, matrix products are computed in `dtype`."""
    mixed = dtype != next(subject.network.parameters()).dtype
    with torch.autocast(subject.device.type, dtype=torch.bfloat16, enabled=mixed):
        yield


@contextmanager
def cast_once(subject: Subject, dtype: torch.dtype) -> Iterator[None]:
    """Within the block, the frozen weights of the blocks are held in `dtype`, not cast each time.

    The embedding, the norms and the vocabulary projection keep their type, and so the loss.
    """
    frozen = [
        layer
        for layer in subject.blocks.modules()
        if isinstance(layer, nn.Linear) and not layer.weight.requires_grad
    ]
    kept = [layer.weight.data for layer in frozen]
    try:
        for layer in frozen:
            layer.weight.data = layer.weight.data.to(dtype)
        yield
    finally:
        for layer, weight in zip(frozen, kept, strict=True):
            layer.weight.data = weight
