"""The model's process: it loads while the page starts, and answers one request at a time."""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final, Literal

from offswitch.errors import UserError, quiet

Kind = Literal["ready", "item", "over", "refused", "failed"]
STOP: Final = "stop"
_LOST: Final = "the model's process ended (out of memory?); it is started again, ask once more"


@dataclass
class Worker:
    """A process with a run's Explorer, and the one conversation with it.

    Whoever asks waits until the one before has been answered.
    """

    root: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _process: BaseProcess | None = None
    _pipe: Connection | None = None
    _ready: bool = False

    def start(self) -> None:
        """Begin to load the model; returns at once."""
        here, there = get_context("spawn").Pipe()
        self._process = get_context("spawn").Process(
            target=_work, args=(there, self.root), daemon=True, name="explorer"
        )
        self._process.start()
        there.close()
        self._pipe, self._ready = here, False

    def ask(self, method: str, *arguments: Any) -> Iterator[Any]:
        """What a method of the Explorer yields; who stops listening stops it.

        Raises:
            UserError: it refused, or its process was lost.
        """
        with self._lock:
            try:
                pipe = self._settled()
                pipe.send((method, arguments))
                over = False
                try:
                    while not over:
                        kind, value = pipe.recv()
                        over = kind != "item"
                        if kind == "refused":
                            raise UserError(value)
                        if kind == "failed":
                            raise RuntimeError(value)
                        if not over:
                            yield value
                finally:
                    if not over:
                        pipe.send((STOP, ()))
                        while pipe.recv()[0] == "item":
                            pass
            except (EOFError, OSError) as error:
                self.close()
                self.start()
                raise UserError(_LOST) from error

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None

    def _settled(self) -> Connection:
        """The pipe, once the model is loaded."""
        if self._process is None:
            self.start()
        if (pipe := self._pipe) is None:
            raise EOFError
        if not self._ready:
            kind, value = pipe.recv()
            if kind == "refused":
                self.close()
                raise UserError(value)
            if kind == "failed":
                self.close()
                raise RuntimeError(value)
            self._ready = True
        return pipe


def _work(pipe: Connection, root: Path) -> None:
    """Load, then answer until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the page's process ends this one
    quiet()
    from offswitch.app.explorer import Explorer

    with suppress(EOFError, OSError):
        try:
            explorer = Explorer.of(root)
        except Exception as error:
            pipe.send(_told(error))
            return
        pipe.send(("ready", None))
        while True:
            method, arguments = pipe.recv()
            if method == STOP:  # of an answer that was over already
                continue
            try:
                for item in getattr(explorer, method)(*arguments):
                    pipe.send(("item", item))
                    if pipe.poll() and pipe.recv()[0] == STOP:
                        break
                pipe.send(("over", None))
            except Exception as error:  # the next request may fare better
                pipe.send(_told(error))


def _told(error: Exception) -> tuple[Kind, str]:
    if isinstance(error, UserError):
        return "refused", str(error)
    return "failed", "".join(traceback.format_exception(error))
