"""One process at a time in a folder: a lock that says who has it, and for how long it was silent.

The system's own lock ends with the process, however that ends. Where a drive knows none, or does
not tell other machines of it, what stands in the file decides: a process of this machine is looked
for, one of another must have touched the file a short while ago. Known limit: where there is no
system lock, two that begin within a fifth of a second may both get in.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import platform
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Final

from offswitch.errors import UserError

LOCK: Final = ".lock"  # the file in the folder
BEAT: Final = 20.0  # seconds between two signs of life
SILENT: Final = 120.0  # seconds without one after which another machine's process is taken for dead
_LOCKS: Final[dict[Path, IO[str]]] = {}  # held until the process ends, however it ends


@dataclass(frozen=True)
class Holder:
    """Who has a folder: a process of a machine, and since when."""

    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        """As a person is told."""
        return f"process {self.pid} on {self.host}, since {self.since}"


def claim(root: Path) -> None:
    """Lock the folder for this process; it is free when the process is gone.

    Raises:
        UserError: another process has it.
        OSError: it cannot be written.
    """
    if holds(root):
        return
    handle = (root / LOCK).open("a+", encoding="utf-8")
    system = True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        with handle:
            raise _refusal(root, _read(handle)) from error
    except OSError:  # a network drive without locks
        system = False
    if (other := _read(handle)) and _at_work(root, handle, other, system):
        with handle:
            raise _refusal(root, other)
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    own = Holder(os.getpid(), platform.node(), since)
    handle.truncate(0)
    handle.write(json.dumps(asdict(own)))
    handle.flush()
    if not system:
        time.sleep(0.2)
        if (first := _read(handle)) and first != own:
            raise _refusal(root, first)
    if not _LOCKS:
        threading.Thread(target=_beat, daemon=True).start()
        atexit.register(_release)
    _LOCKS[root.resolve()] = handle


def holds(root: Path) -> bool:
    """Has this process the folder?"""
    return root.resolve() in _LOCKS


def release(root: Path) -> None:
    """Give up a folder that this process has, and take the lock's file out of it."""
    with _LOCKS.pop(root.resolve()):
        (root / LOCK).unlink()


def _at_work(root: Path, handle: IO[str], other: Holder, system: bool) -> bool:
    """Is the process that a lock file names still there? With the system's lock only afar."""
    if other.host != platform.node():
        with tempfile.TemporaryFile(dir=root) as now:  # by the drive's clock, not by ours
            return os.fstat(now.fileno()).st_mtime - os.fstat(handle.fileno()).st_mtime < SILENT
    if system or other.pid == os.getpid():
        return False
    try:
        os.kill(other.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _refusal(root: Path, other: Holder | None) -> UserError:
    who = f" ({other})" if other else ""
    advice = "wait for it, or end it"
    if other and other.host != platform.node():
        advice += f"; if it is gone, wait {SILENT:.0f} seconds"
    return UserError(f"{root} is in use by another offswitch{who}; {advice}")


def _read(handle: IO[str]) -> Holder | None:
    """Whom a lock file names; None where it names nobody."""
    try:
        handle.seek(0)
        return Holder(**json.loads(handle.read()))
    except (OSError, ValueError, TypeError):
        return None


def _beat() -> None:
    while True:
        time.sleep(BEAT)
        for handle in [*_LOCKS.values()]:
            with contextlib.suppress(OSError, ValueError):
                os.utime(handle.fileno())


def _release() -> None:
    for handle in _LOCKS.values():
        with contextlib.suppress(OSError, ValueError):
            handle.truncate(0)
