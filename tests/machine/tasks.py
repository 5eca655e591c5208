"""What child processes are asked to do in tests."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from offswitch.errors import UserError
from offswitch.machine.workers import Pool, is_child
from offswitch.progress import say, track

PATIENCE: Final = 120.0


def pid() -> int:
    """The process that does this."""
    return os.getpid()


def wait_for(path: Path) -> str:
    """Wait until a file is there, then give its name."""
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(path)
        time.sleep(0.01)
    return path.name


def write(path: Path) -> str:
    """Make a file and give its name."""
    path.touch()
    return path.name


def refuse() -> None:
    """The user's mistake."""
    raise UserError("expected a fish, got a bicycle")


def fail() -> None:
    """A fault of ours."""
    raise ZeroDivisionError("a fault in a task")


def give_what_cannot_be_sent() -> Callable[[], None]:
    """A value that has no pickle."""
    return lambda: None


def die() -> None:
    """Be killed, as by a machine whose memory ran out."""
    os.kill(os.getpid(), signal.SIGKILL)


def surroundings() -> dict[str, object]:
    """What this process was told by its environment."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
    return {name: os.environ.get(name) for name in names} | {"child": is_child()}


def device_after(path: Path) -> str:
    """The device this process has, once a file is there."""
    wait_for(path)
    return os.environ["CUDA_VISIBLE_DEVICES"]


def chatter(total: int) -> None:
    """Be heard, move a bar, and print what nobody should see."""
    os.write(1, b"from C, on stdout\n")
    os.write(2, b"from C, on stderr\n")
    sys.stdout.write("from a library\n")
    say("a line from a child")
    with track("counting", total) as tick:
        for _ in range(total):
            tick(1)


def parent(folder: Path) -> None:
    """A parent process: two children that never end; their ids are written to a file."""
    pool = Pool(2, 1)
    for name in ("a", "b"):
        pool.submit(name, _write_id_and_stay, folder / name)
    pool.next()


def _write_id_and_stay(path: Path) -> None:
    path.with_suffix(".new").write_text(str(os.getpid()), encoding="utf-8")
    path.with_suffix(".new").rename(path)
    say("here")
    time.sleep(10 * PATIENCE)
