"""A trial that ends like a process on which the machine forbids an instruction."""

from __future__ import annotations

import os
import signal

from offswitch.machine import trial
from offswitch.machine.cells import Cell

real = trial.prepare


def prepare(config: str, cell: Cell) -> None:
    """The trial itself in float32; in bfloat16 the process dies."""
    if cell.precision == "bfloat16":
        os.kill(os.getpid(), signal.SIGILL)
    real(config, cell)
