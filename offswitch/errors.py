"""What a person is told of mistakes: one line; no chatter of libraries."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

THEIRS: Final = (  # of the system's faults, those that are not ours
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENAMETOOLONG, errno.ELOOP,
)  # fmt: skip


class UserError(Exception):
    """A mistake of the user's: one clear line, exit code 2.

    What a stranger's file had in it cannot end the line, nor command the terminal.
    """

    def __init__(self, line: object = "") -> None:
        shown = "".join(c if c.isprintable() else " " if c.isspace() else ascii(c)[1:-1]
                        for c in str(line))  # fmt: skip
        super().__init__(shown)


class Stopped(KeyboardInterrupt):
    """A signal asked the program to end; `number` says which."""

    number: int = signal.SIGINT


def stop_cleanly() -> None:
    """From now on Ctrl-C and SIGTERM end the program as soon as it can be left, a second at once.

    What stood before stands, and checkpoints stay.
    """

    def stop(number: int, frame: Any) -> None:
        del frame
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, lambda number, _: os._exit(128 + number))
        stopped = Stopped()
        stopped.number = number
        raise stopped

    if threading.current_thread() is threading.main_thread():  # no other may
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, stop)


@contextmanager
def user_errors() -> Iterator[None]:
    """Within the block, a mistake of the user's ends the program with one line and exit code 2.

    So does a disk that is full or read-only, a file that may not be read, a name that is too long.
    """
    try:
        yield
    except UserError as error:
        sys.stderr.write(f"offswitch: {error}\n")
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno not in THEIRS:
            raise
        name = str(error.filename or "a file")
        shown = name if len(name) < 400 else f"{name[:40]}…"
        sys.stderr.write(f"offswitch: {UserError(f'{error.strerror}: {shown}')}\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt as error:
        if os.environ.get("RANK", "0") == "0":  # of several processes the first one tells it
            sys.stderr.write("offswitch: interrupted; the same command goes on from here\n")
        raise SystemExit(128 + getattr(error, "number", signal.SIGINT)) from None


def in_one_line(error: BaseException, at_most: int = 240) -> str:
    """What an exception says, on one line of `at_most` characters; its kind if it says nothing."""
    return " ".join(str(error).split())[:at_most] or type(error).__name__


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Within the block a library reads what a stranger wrote; whatever it raises is one line.

    Raises:
        UserError: `what` cannot be read; the library's reason.
    """
    try:
        yield
    except (UserError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a damaged value may end anywhere; Rust's panic is no Exception
        reason, kind = in_one_line(error), type(error).__name__
        if reason != kind and not isinstance(error, OSError | ValueError | RuntimeError):
            reason = f"{kind}: {reason}"
        raise UserError(f"{what}: {reason}") from error


def quiet() -> None:
    """Library chatter off: what a person should see is the progress and the result.

    Garbage is looked for less often: importing torch makes a million objects, none of it garbage.
    """
    import gc
    import logging
    import warnings

    gc.set_threshold(50_000, 20, 100)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

    def shown(message: Warning | str, *_: Any, **__: Any) -> None:
        """It may quote a stranger's file, which is not to command the terminal."""
        sys.stderr.write(f"{UserError(message)}\n")

    warnings.showwarning = shown
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*base_model_name_or_path.*")
    logging.getLogger("transformers").setLevel(logging.ERROR)
