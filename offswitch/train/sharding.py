"""A model that fits on no device, trained in shares: FSDP2 under our own loss.

What is frozen is cut into shares, block by block, and gathered for the passes of its block; the
adapter is small and stays whole on every process, so that gradients, optimiser, checkpoints and the
saved folder are what they are without. Sharding is done here and not by accelerate's plugin, whose
model gathers weights in its own forward pass only, which our loss does not call.

Known limits: every process loads the whole model into the machine's memory first, and only training
is sharded.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any, TypeVar

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from offswitch.model import processes
from offswitch.model.forward import hidden, verify
from offswitch.model.load import choose_device
from offswitch.model.rows import Batch, rows_of
from offswitch.model.subject import Subject

T = TypeVar("T")


@contextmanager
def in_shares(subject: Subject, device: str) -> Iterator[None]:
    """Within the block the network is a twin whose frozen weights are shared out; else itself.

    The twin's adapter is its own; the network that stood before is neither moved nor trained.
    """
    if not processes.sharded():
        yield
        return
    whole = subject.network
    subject.network = _twin(whole)
    try:
        _shard(subject, choose_device(device))
        with torch.no_grad():
            subject.network.eval().run_gathered(lambda: verify(subject))
        yield
    finally:
        subject.network = whole


def alike(batch: Batch, share: int, micro_tokens: int) -> Batch:
    """What every process must do alike with its share of a global batch.

    Gathering weights takes all processes, so each makes as many passes as the others. A cache of
    the shared prefix would be used where the weights behind it are not gathered: it is not taken.
    """
    parts = math.ceil(share * batch["input_ids"].shape[1] / micro_tokens)
    shared = {"prefix": 0, "parts": min(parts, share), "base_passes": bool(batch["soft"].any())}
    return {key: torch.tensor(value) for key, value in shared.items()}


def even_parts(batch: Batch) -> list[Batch]:
    """The share as micro-batches of rows of like length, as many as every process makes."""
    order = batch["lengths"].argsort(stable=True)
    return [rows_of(batch, rows) for rows in order.tensor_split(int(batch["parts"]))]


def gathered(subject: Subject, part: Batch, work: Callable[[], T]) -> T:
    """What `work` returns for a micro-batch; weights outside the blocks are whole for the while."""
    if not processes.sharded():
        return work()

    def passes() -> T:
        if bool(part["base_passes"]) and not bool(part["soft"].any()):
            with torch.no_grad():  # others ask the base model now
                hidden(subject, part["input_ids"][:1])
        return work()

    run: Callable[[Callable[[], T]], T] = subject.network.run_gathered
    return run(passes)


def _twin(network: nn.Module) -> Any:
    """A copy that shares the frozen weights, and nothing else."""
    frozen = {id(p): p for p in network.parameters() if not p.requires_grad}
    return copy.deepcopy(network, dict(frozen))


def _shard(subject: Subject, device: torch.device) -> None:
    network = subject.network
    own = {p for p in network.parameters() if p.requires_grad}
    mesh = init_device_mesh(device.type, (processes.count(),))
    for block in subject.blocks:
        _place(block, device)
        fully_shard(block, mesh=mesh, ignored_params=own)
    _place(network, device)
    network.run_gathered = MethodType(_run, network)
    fully_shard(network, mesh=mesh, ignored_params=own)
    register_fsdp_forward_method(network, "run_gathered")


def _place(module: nn.Module, device: torch.device) -> None:
    """Put copies of plain weights on the device; what they were copied from stays where it is."""
    from torch.distributed.tensor import DTensor

    copies: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, weight in list(part.named_parameters(recurse=False, remove_duplicate=False)):
            if weight.requires_grad:
                weight.data = weight.data.to(device)
            elif not isinstance(weight, DTensor):
                new = nn.Parameter(weight.detach().to(device), requires_grad=False)
                setattr(part, name, copies.setdefault(id(weight), new))
        for name, value in list(part.named_buffers(recurse=False)):
            setattr(part, name, value.to(device))


def _run(_network: nn.Module, work: Callable[[], Any]) -> Any:
    return work()
