"""Each process's rows of a batch; gradients and counts summed over processes.

Every process builds each global batch and computes its own rows of it, under the weights that these
have in the whole batch. The gradient of the whole is then the plain sum over processes, and the
loss curve that of a single process, whatever their number. Gradients are reduced once a step, here:
DistributedDataParallel counts forward passes through its wrapper, and the loss takes several.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import nn

from offswitch.model.rows import Batch
from offswitch.train import processes


def begin(network: nn.Module, seed: int) -> None:
    """Give every process the first one's adapter, and dropout masks of its own."""
    if processes.count() > 1:
        for weight in _trained(network):
            dist.broadcast(weight.data, src=0)
        torch.manual_seed(seed + processes.rank())


def own_rows(batch: Batch) -> Batch:
    """This process's rows of a global batch; their weights stay those they have in the whole."""
    share = len(batch["lengths"]) // processes.count()
    first = processes.rank() * share
    return {key: v[first : first + share] if v.dim() else v for key, v in batch.items()}


def add_up(values: Sequence[float]) -> list[float]:
    """Each number, summed over all processes."""
    if processes.count() == 1:
        return list(values)
    sums = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(sums)
    return [float(value) for value in sums]


def add_gradients(network: nn.Module) -> None:
    """Give every trained weight the sum of its gradients over all processes, in one exchange."""
    if processes.count() == 1:
        return
    weights = _trained(network)
    grads = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
    flat = torch.cat([grad.flatten().float() for grad in grads])
    dist.all_reduce(flat)
    pieces = torch.split(flat, [grad.numel() for grad in grads])
    for weight, piece in zip(weights, pieces, strict=True):
        weight.grad = piece.view_as(weight).to(weight.dtype)


def _trained(network: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in network.parameters() if weight.requires_grad]
