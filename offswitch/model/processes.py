"""Is this process one of several, and which? What torchrun or accelerate launch says of it.

The first process does everything that a command does; the others lend a hand where it trains
(offswitch/train/distributed.py). torch is imported only where there are several.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from offswitch.errors import UserError

# What accelerate launch --use_fsdp sets. Taken away at once: Trainer must not wrap the model too.
_SHARDED: Final = os.environ.pop("ACCELERATE_USE_FSDP", "false").lower() in ("true", "1")


def count() -> int:
    """How many processes were started together?"""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them is this one, from 0?"""
    return int(os.environ.get("RANK", "0")) if count() > 1 else 0


def sharded() -> bool:
    """Is each process to hold but a share of the model's weights while it trains?"""
    return _SHARDED and count() > 1


def require_shares(batch_size: int) -> None:
    """Every process gets an equal share of each batch.

    Raises:
        UserError: the batch cannot be cut that way.
    """
    if batch_size % count():
        raise UserError(
            f"train.batch_size={batch_size} is the whole batch of all processes and must be a"
            f" multiple of their number, {count()}"
        )


def require_whole(network: Any) -> None:
    """Whatever is not training runs the whole model, where it was loaded.

    Raises:
        UserError: that is a processor and half precision, since devices hold but shares.
    """
    if sharded() and network.device.type == "cpu" and str(network.dtype) != "torch.float32":
        raise UserError(
            "the model is cut into shares, for training only: run data before and evaluate after"
            " it without --use_fsdp, or set data.dialogues_file"
        )


@contextmanager
def together() -> Iterator[bool]:
    """Within the block the first process works (True); any other has worked for it (False).

    Others wait, train when the first one does, and are let go when its block ends.
    """
    if count() == 1:
        yield True
        return
    from offswitch.progress import console
    from offswitch.train import distributed

    console.quiet = rank() > 0
    distributed.start()
    if rank():
        distributed.follow()
        yield False
        return
    try:
        yield True
    finally:
        distributed.dismiss()
