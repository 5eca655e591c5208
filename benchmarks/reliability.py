"""What the campaigns share: a small finished run, how a command ended, tables in reliability.md."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads that are given are not measured
import io
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from offswitch import progress
from offswitch.errors import UserError
from offswitch.files import write_atomic
from offswitch.folder import Run, open_run
from offswitch.recipe import load_recipe
from tests.small import small_recipe

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "reliability.md"
TIMED: Final = re.compile(r"tokens_per_second|seconds")
ATTACKS: Final = ("pruning", "removal")


@dataclass(frozen=True)
class Ended:
    """How something ended: 0 well, 2 refused, 1 a traceback; and what was said on the way."""

    code: int
    said: str
    value: Any = None

    @property
    def last(self) -> str:
        """The last line."""
        return self.said.strip().rpartition("\n")[2]


def ended(work: Callable[[], Any]) -> Ended:
    """How a piece of work ends, in this process; nothing is shown."""
    said = io.StringIO()
    before, progress.console = progress.console, Console(file=said, width=200)
    try:
        with redirect_stdout(said), redirect_stderr(said):
            value = work()
    except UserError as error:
        return Ended(2, f"{said.getvalue()}\n{error}")
    except SystemExit as error:
        return Ended(int(error.code or 0), said.getvalue())
    except Exception:
        return Ended(1, f"{said.getvalue()}\n{traceback.format_exc()}")
    finally:
        progress.console = before
    return Ended(0, said.getvalue(), value)


@contextmanager
def at(cache: Path) -> Iterator[None]:
    """Within the block that folder is the cache."""
    before = os.environ.get("OFFSWITCH_CACHE")
    os.environ["OFFSWITCH_CACHE"] = str(cache)
    try:
        yield
    finally:
        if before is None:
            del os.environ["OFFSWITCH_CACHE"]
        else:
            os.environ["OFFSWITCH_CACHE"] = before


@dataclass
class Watch:
    """Whether a file was opened for reading, as it lay there when the watch began."""

    path: Path
    inode: int
    was_read: bool = False


_WATCHES: Final[list[Watch]] = []
_SEES: Final[list[bool]] = []  # whether files that are opened are looked at


def _see(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _WATCHES and isinstance(arguments[1], str) and "r" in arguments[1]:
        for one in _WATCHES:
            if str(arguments[0]) == str(one.path):
                one.was_read |= one.path.exists() and one.path.stat().st_ino == one.inode


@contextmanager
def watched(path: Path) -> Iterator[Watch]:
    """Within the block it is noticed whether this process reads the file."""
    if not _SEES:
        sys.addaudithook(_see)  # for good: there is no taking it away
        _SEES.append(True)
    _WATCHES.append(watch := Watch(path, path.stat().st_ino))
    try:
        yield watch
    finally:
        _WATCHES.remove(watch)


def small_home(home: Path, architecture: str = "llama") -> Path:
    """A folder with a tiny model and `small.yaml`, a recipe that takes seconds."""
    home.mkdir(parents=True, exist_ok=True)
    small_recipe(home, architecture)
    return home


def opened(home: Path, changes: Sequence[str] = ()) -> Run:
    """The run of a home's recipe, this process's own."""
    return open_run(load_recipe(home / "small.yaml", changes), home / "runs")


def what_follows(home: Path) -> list[list[str]]:
    """What is typed once a home's run is there: attacks on it, and an export into `exported`."""
    root = str(home / "runs" / "small")
    return [
        ["endure", root, "--quick", *(word for one in ATTACKS for word in ("--only", one))],
        ["export", root, str(home / "exported"), "--base", "someone/small"],
    ]


def type_in(words: Sequence[str]) -> None:
    """Do in this process what a command does; it raises where the command would have failed."""
    from offswitch.cli import app

    try:
        app(words)
    except SystemExit as done:
        if done.code:
            raise


def untimed(metrics: dict[str, Any]) -> dict[str, Any]:
    """Metrics without those that are times."""
    return {key: row for key, row in metrics.items() if not TIMED.search(key)}


def write_part(name: str, text: str, page: Path = PAGE) -> None:
    """Put a campaign's text between its marks on the page."""
    first, last = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(first)
    _, found, after = rest.partition(last)
    if not found:
        raise ValueError(f"{page} has no marks {first.strip()} … {last}")
    write_atomic(page, f"{before}{first}\n{text.strip()}\n\n{last}{after}")
