"""Several processes, one command: which is this, what the first one does alone.

torchrun starts the same command several times, and every process goes through the same stages. The
first one alone writes and speaks; the others wait for it, and all of them train. torch is imported
only where there are several.

Known limit: the run folder, the model and its cache must be where every process can read them.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar

from offswitch.errors import UserError

T = TypeVar("T")
_TRAINING: Final = timedelta(hours=2)  # how long a process may wait for another while they train
_STAGE: Final = timedelta(days=30)  # how long for what the first one does alone
_END: Final = 60.0  # seconds; torchrun takes a tenth of one


@dataclass
class _State:
    group: Any = None  # speaks gloo, and waits as long as a stage takes
    alone: bool = False


_STATE: Final = _State()


def count() -> int:
    """How many processes work together? 1 while the first one works alone."""
    return 1 if _STATE.alone else int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them is this one, from 0?"""
    return int(os.environ.get("RANK", "0")) if count() > 1 else 0


def only_first() -> bool:
    """For what one process does: False in the others; the first one is alone from now on."""
    first = rank() == 0
    _STATE.alone = count() > 1
    return first


@contextmanager
def together() -> Iterator[None]:
    """Within the block the processes work together, and only the first one is heard.

    Raises:
        UserError: accelerate was asked to cut the model into shares.
    """
    if count() == 1:
        yield
        return
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("true", "1"):
        raise UserError("a model must fit one device: start without --use_fsdp")
    import torch.distributed as dist

    from offswitch.progress import console

    join()
    console.quiet = rank() > 0
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere if rank() else sys.stdout):
            yield
    except (UserError, SystemExit):  # after others it is not safe: it may wait for the broken ones
        dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def join() -> None:
    """Meet the other processes; each takes the device of its number on its machine."""
    import torch
    import torch.distributed as dist

    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=_TRAINING)
    _STATE.group = dist.new_group(backend="gloo", timeout=_STAGE)


def by_first(work: Callable[[], T]) -> T:
    """What `work` gives in the first process, which does it as if there were no others.

    Where it fails there, the others say nothing and wait until torchrun ends them.
    """
    if count() == 1:
        return work()
    import torch.distributed as dist

    answer: list[Any] = [None, False]  # what it gave; whether it failed
    if rank() == 0:
        _STATE.alone = True
        try:
            answer[0] = work()
        except Exception:
            answer[1] = True
            dist.broadcast_object_list(answer, src=0, group=_STATE.group)
            raise
        finally:
            _STATE.alone = False
    dist.broadcast_object_list(answer, src=0, group=_STATE.group)
    if answer[1]:
        time.sleep(_END)  # ending before the first one would have it ended before it has spoken
        raise SystemExit(1)
    result: T = answer[0]
    return result


def barrier() -> None:
    """Wait until every process is here."""
    if count() > 1:
        import torch.distributed as dist

        dist.barrier(_STATE.group)


def require_shares(batch_size: int, processes: int) -> None:
    """Every process gets an equal share of each batch.

    Raises:
        UserError: the batch cannot be cut that way.
    """
    if batch_size % processes:
        raise UserError(
            f"train.batch_size={batch_size} is the whole batch of all processes and must be a"
            f" multiple of their number, {processes}"
        )
