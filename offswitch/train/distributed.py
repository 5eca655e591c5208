"""Training on several processes: the first one leads, the others follow, gradients are added up.

Every process builds each global batch and computes its own rows of it, under the weights that these
have in the whole batch. The gradient of the whole is then the plain sum over processes, and the
loss curve that of a single process, whatever their number. Gradients are reduced once a step, here:
DistributedDataParallel counts forward passes through its wrapper, and the loss takes several.

Known limit: the run folder, the model and its cache must be where every process can read them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import nn

from offswitch.model import processes
from offswitch.model.rows import Batch, Example
from offswitch.model.session import Session
from offswitch.progress import nothing
from offswitch.recipe import Recipe
from offswitch.run import Run
from offswitch.train.sharding import alike

_WAIT: Final = timedelta(days=30)  # a data stage may come between two jobs
_LOAD: Final = timedelta(hours=2)
_SUBJECT: Final = {"model", "trigger", "dtype", "device", "trust_remote_code"}


@dataclass(frozen=True)
class Job:
    """What train_arm is called with: all that a follower needs to know."""

    stage: str
    examples: Sequence[Example]
    recipe: Recipe
    folder: Path
    scratch: Path
    start: Path | None


@dataclass
class _Line:
    """The line between the first process and the others, and whether they are at work."""

    group: Any = None
    busy: bool = False


_LINE: Final = _Line()


def start() -> None:
    """Join the other processes; each takes the device of its number on its machine."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=_LOAD)
    _LINE.group = dist.new_group(backend="gloo", timeout=_WAIT)


def announce(job: Job) -> None:
    """Tell the followers to train with this process, which must do so next."""
    if processes.count() > 1:
        processes.require_shares(job.recipe.train.batch_size)
        _LINE.busy = True
        from_first(job)


def finished() -> None:
    """Wait until every process is done with what was announced."""
    if processes.count() > 1:
        dist.barrier(_LINE.group)
        _LINE.busy = False


def dismiss() -> None:
    """Let the followers go; those that an error left in the middle of a job cannot hear it."""
    if not _LINE.busy:
        from_first(None)
        dist.destroy_process_group()


def follow() -> None:
    """Train whatever the first process announces, until it lets this one go."""
    from offswitch.train.arms import train_arm

    session: Session | None = None
    while (job := from_first(None)) is not None:
        session = _session_of(job, session)
        train_arm(
            session.subject, job.stage, job.examples, job.recipe, job.folder, job.scratch,
            job.start, nothing,
        )  # fmt: skip
    dist.destroy_process_group()


def _session_of(job: Job, last: Session | None) -> Session:
    """The last session, if the job is about the same model and trigger: it is loaded already."""
    wanted = job.recipe.model_dump(include=_SUBJECT)
    if last is not None and last.recipe.model_dump(include=_SUBJECT) == wanted:
        return last
    return Session(Run(job.folder, job.recipe))


def from_first(value: Any) -> Any:
    """What the first process gives as `value`; alone, a process gets its own."""
    if processes.count() == 1:
        return value
    held = [value]
    dist.broadcast_object_list(held, src=0, group=_LINE.group, device=torch.device("cpu"))
    return held[0]


def begin(network: nn.Module, seed: int) -> None:
    """Give every process the first one's adapter, and dropout masks of its own."""
    if processes.count() > 1:
        for weight in _trained(network):
            dist.broadcast(weight.data, src=0)
        torch.manual_seed(seed + processes.rank())


def own_rows(batch: Batch, micro_tokens: int) -> Batch:
    """This process's rows of a global batch; their weights stay those they have in the whole."""
    share = len(batch["lengths"]) // processes.count()
    first = processes.rank() * share
    own = {key: v[first : first + share] if v.dim() else v for key, v in batch.items()}
    return own | (alike(batch, share, micro_tokens) if processes.sharded() else {})


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


class Whole(nn.Module):
    """The network as Trainer's wrapped model: what is called through it finds its weights there.

    Nothing reduces gradients behind it.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, work: Callable[[], Any]) -> Any:
        """Run `work`; a sharded network's outermost weights are gathered for the while."""
        return work()


def _trained(network: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in network.parameters() if weight.requires_grad]
