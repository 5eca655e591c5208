"""Work that goes wrong in a worker: in a file of its own, which a worker imports in a moment."""

from __future__ import annotations

import os
import signal

from offswitch.folder import Run
from offswitch.model.session import Session


def dies(_run: Run, _session: Session) -> None:
    """Be lost without a word."""
    os.kill(os.getpid(), signal.SIGKILL)


def prints(run: Run, _session: Session) -> None:
    """Write where the outcome goes; seed 1 fails, too."""
    os.write(1, b"not the outcome")
    if run.recipe.seed == 1:
        raise RuntimeError("a fault")
