"""Child processes that stay: each does one task after another and keeps what it has loaded.

A task is a function of a module and its arguments; task and answer travel as pickles through a pair
of sockets. A child ends when this process does, even if that is killed. What it says and how far it
is are shown here; what its libraries print is not.
"""

from __future__ import annotations

import os
import pickle
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, Final

from offswitch.errors import UserError, quiet
from offswitch.folder.provenance import PEAKS, peak_memory_mb
from offswitch.progress import Bar, forget, relay_to, tell

CHILD: Final = "from offswitch.machine.workers import child; child({})"
STAGE: Final = re.compile(r"[^:]*\d-[a-z]+(/[^/:]+$)?")  # of a task: `3-evaluate/both: robustness`
MARK: Final = "OFFSWITCH_CHILD"  # set in children: they start no others


class Lost(UserError):
    """A child process that ended without a word; `how` says by what."""

    def __init__(self, key: str, how: str) -> None:
        line = f"{key}: its process was lost ({how}); the same command goes on from there"
        if how.endswith("SIGKILL"):
            line += "; if memory ran out, --set processes=1 needs less of it"
        super().__init__(line)
        self.how = how


class ChildError(RuntimeError):
    """A fault in a child process; its text is the traceback there."""


@dataclass(frozen=True)
class Answer:
    """What became of a task: its value, or why there is none; what it took of the child."""

    key: str
    value: Any = None
    error: Exception | None = None
    seconds: float = 0.0
    peak_memory_mb: int = 0

    def result(self) -> Any:
        """The value.

        Raises:
            UserError: the task refused, or its process is gone (Lost).
            ChildError: there was a fault in it.
        """
        if self.error is not None:
            raise self.error
        return self.value


@dataclass
class _Child:
    """A process, the line to it, its device, and the key of its task; empty where it waits."""

    process: subprocess.Popen[bytes]
    line: Connection[Any, Any]
    device: str
    key: str = ""


class Pool:
    """At most so many child processes of so many threads each, started when there is a task.

    `devices`: the CUDA device that each process sees, where there are several. `fresh`: a new
    process for every task, of which nothing is shown. Ctrl-C reaches this process alone; who uses a
    pool closes it then.
    """

    def __init__(
        self, processes: int, threads: int, devices: Sequence[str] = (), fresh: bool = False
    ) -> None:
        self.processes, self.threads, self.devices = processes, threads, tuple(devices)
        self._fresh = fresh
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._children: list[_Child] = []
        self._answers: dict[str, Answer] = {}
        weakref.finalize(self, _end, self._children)

    def submit(self, key: str, function: Callable[..., Any], *arguments: Any) -> None:
        """Have a task done as soon as a child is free; `key` names it, also for the person."""
        if key in self:
            raise ValueError(f"there is a task '{key}' already")
        self._waiting.append((key, pickle.dumps((function, arguments))))
        self._assign()

    def __contains__(self, key: str) -> bool:
        """Is there a task of this key whose answer nobody has had yet?"""
        return key in self._open() or key in self._answers

    def next(self, keys: Collection[str] | None = None) -> Answer:
        """The answer of the task that ends first, of any or of some; other answers are kept.

        Raises:
            ValueError: there is no such task.
        """
        while not (ready := [key for key in self._answers if keys is None or key in keys]):
            if not [key for key in self._open() if keys is None or key in keys]:
                raise ValueError(f"no such task: {keys}")
            self._listen()
        return self._answers.pop(ready[0])

    def ended(self) -> list[Answer]:
        """The answers that are here; nothing is waited for."""
        while self._listen(0):
            pass
        found = [*self._answers.values()]
        self._answers.clear()
        return found

    def close(self) -> None:
        """End every child, whatever it does; tasks and answers are forgotten."""
        for child in self._children:
            forget(id(child))
        _end(self._children)
        self._waiting.clear()
        self._answers.clear()

    def _open(self) -> list[str]:
        """The keys of tasks that are not answered."""
        at_work = [child.key for child in self._children if child.key]
        return at_work + [key for key, _ in self._waiting]

    def _listen(self, timeout: float | None = None) -> bool:
        """Take a message of every child that sent one; wait for the first, at most so long."""
        lines = {child.line: child for child in self._children if child.key}
        heard: list[Any] = wait(lines, timeout)
        for line in heard:
            self._hear(lines[line])
        return bool(heard)

    def _hear(self, child: _Child) -> None:
        """Take one message of a child: news, its answer, or its end."""
        try:
            message = child.line.recv()
        except (EOFError, OSError):
            code = child.process.wait()
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            message = Answer(child.key, error=Lost(child.key, how))
            self._drop(child)
        if not isinstance(message, Answer):
            if isinstance(message, Bar):
                stage = STAGE.match(child.key)
                message = replace(message, stage=stage[0] if stage else "")
            if not self._fresh:
                tell(message, id(child))
            return
        PEAKS[0] = max(PEAKS[0], message.peak_memory_mb)
        self._answers[child.key] = replace(message, key=child.key)
        child.key = ""
        if self._fresh and child in self._children:
            self._drop(child)
        self._assign()

    def _assign(self) -> None:
        while self._waiting and sum(bool(child.key) for child in self._children) < self.processes:
            child = self._idle() or self._start()
            child.key, task = self._waiting.popleft()
            with suppress(OSError):  # it is gone, and `_hear` will see that
                child.line.send_bytes(task)

    def _idle(self) -> _Child | None:
        for child in [child for child in self._children if not child.key]:
            if child.process.poll() is None:
                return child
            self._drop(child)
        return None

    def _start(self) -> _Child:
        ours, theirs = Pipe()
        environment = os.environ | held(self.threads) | {"PYTHONPATH": os.pathsep.join(sys.path)}
        taken = {child.device for child in self._children}
        device = next((one for one in self.devices if one not in taken), "")
        environment |= {"CUDA_VISIBLE_DEVICES": device} if device else {}
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", CHILD.format(theirs.fileno())], env=environment,
                start_new_session=True, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        self._children.append(_Child(process, ours, device))
        return self._children[-1]

    def _drop(self, child: _Child) -> None:
        self._children.remove(child)
        forget(id(child))
        _end([child])


def held(threads: int) -> dict[str, str]:
    """The environment that holds a process to its threads and has it start no processes.

    glibc keeps what it freed: handing large blocks back and forth took a twentieth of training.
    """
    memory = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}
    return {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), MARK: "1"} | memory


def is_child(environment: Mapping[str, str] = os.environ) -> bool:
    """Was this process started for a task, here or on a cluster?"""
    return MARK in environment


def child(descriptor: int) -> None:
    """What a child process does: one task after another, until the parent is gone."""
    line: Connection[Any, Any] = Connection(descriptor)
    tasks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    speaking = threading.Lock()

    def listen() -> None:
        with suppress(EOFError, OSError):
            while True:
                tasks.put(line.recv_bytes())
        os._exit(1)

    def send(message: object) -> None:
        content = pickle.dumps(message)
        with speaking:
            line.send_bytes(content)

    threading.Thread(target=listen, daemon=True).start()
    quiet()
    relay_to(send)
    while True:
        answer = _done(tasks.get())
        try:
            send(answer)
        except OSError:
            os._exit(1)
        except Exception:  # what it gave cannot be sent
            send(replace(answer, value=None, error=ChildError(traceback.format_exc())))


def _done(task: bytes) -> Answer:
    value, clock = None, time.perf_counter()
    error: Exception | None = None
    try:
        function, arguments = pickle.loads(task)
        value = function(*arguments)
    except UserError as refused:
        error = UserError(str(refused))
    except Exception:
        error = ChildError(f"in a child process\n{traceback.format_exc()}")
    seconds = time.perf_counter() - clock
    return Answer("", value, error, round(seconds, 2), peak_memory_mb())


def _end(children: list[_Child]) -> None:
    while children:
        child = children.pop()
        child.line.close()
        child.process.kill()
        child.process.wait()
