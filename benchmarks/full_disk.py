"""What does a full disk cost, whenever it fills up?

A small run is made on a disk (a tmpfs) that is too small, refused, given a little more room, made
again, and so on until it ends: more than twenty times. Each time it must end with one line, what
stood in the run must stand as it was, and at last the numbers must be those of a run with room.
A disk that is read-only must be refused in one line too. Needs the right to mount.
`python -m benchmarks.full_disk [--points 24] [--write]`.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.reliability import Ended, at, ended, opened, small_home, untimed, write_part
from offswitch import folder as run_folder
from offswitch.errors import quiet, user_errors
from offswitch.folder import lock
from offswitch.folder.whole import unlike
from offswitch.pipeline import report


@dataclass
class Found:
    """Where the disk was full, and what was wrong with how it was told or with what is left."""

    points: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def may_mount() -> bool:
    """Can this process mount a disk of its own?"""
    with tempfile.TemporaryDirectory() as folder:
        if _mount(["-t", "tmpfs", "-o", "size=1m", "none", folder]).returncode:
            return False
        subprocess.run(["umount", folder], check=True)
    return True


@contextmanager
def disk(folder: Path, size: int) -> Iterator[Path]:
    """A disk of that many bytes."""
    folder.mkdir(parents=True)
    _mount(["-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]).check_returncode()
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _mount(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["mount", *words], capture_output=True, text=True, check=False)


def made(home: Path) -> Ended:
    """The run, brought up to date as the command does it; a disk of any size is tried."""

    def work() -> None:
        with user_errors(), at(home.parent / "cache"), patch.object(run_folder, "ROOM", 0):
            report(opened(home))

    return ended(work)


def size_of(folder: Path) -> int:
    """The bytes that a folder's files take on a disk."""
    return sum(-(-p.stat().st_size // 4096) * 4096 for p in folder.rglob("*") if p.is_file())


def numbers(home: Path) -> dict[str, Any]:
    """The run's metrics, but for times."""
    path = home / "runs" / "small" / "metrics.json"
    return untimed(json.loads(path.read_text(encoding="utf-8")))


def campaign(folder: Path, points: int) -> Found:
    """Fill a disk at so many points."""
    whole, found = small_home(folder / "whole"), Found()
    if (done := made(whole)).code:
        raise RuntimeError(done.said)
    step = size_of(whole / "runs") // points
    size = 8192
    with disk(folder / "disk", size) as place:
        home = place / "home"
        home.mkdir()
        shutil.copy(whole / "small.yaml", home)
        for _ in range(4 * points):
            done = made(home)
            found.wrong += _what_is_wrong(home, done)
            if not done.code:
                break
            found.points.append(done.last)
            size += step
            _mount(["-o", f"remount,size={size}", str(place)]).check_returncode()
        if done.code or numbers(home) != numbers(whole):
            found.wrong.append(f"with room at last: {done.last}, or other numbers")
        for held in [root for root in lock._LOCKS if root.is_relative_to(place.resolve())]:
            lock._LOCKS.pop(held).close()  # an open file keeps a disk from turning read-only
        _mount(["-o", "remount,ro", str(place)]).check_returncode()
        done = made(home)
        found.wrong += [] if done.code == 2 else [f"read-only: {done.code}, {done.last}"]
        found.points.append(f"read-only: {done.last}")
    return found


def _what_is_wrong(home: Path, done: Ended) -> list[str]:
    root = home / "runs" / "small"
    if done.code == 1 or "Traceback" in done.said:
        return [done.said[-1500:]]
    if done.code and len(done.last) > 300:
        return [f"not one line: {done.last}"]
    if not (root / "recipe.yaml").is_file() or not (root / "manifest.json").is_file():
        return []
    try:
        damaged = unlike(root, run_folder.find_run(root).manifest())
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]
    return [f"{path} was lost" for path in damaged]


def told(found: Found) -> str:
    """What came of it, as Markdown."""
    kinds = Counter(
        re.sub(r" in /.*|: /.*|\boffswitch: | to /[^:]*", "", line) for line in found.points
    )
    rows = "\n".join(f"| {line} | {count} |" for line, count in kinds.items())
    return (
        f"{len(found.points)} times refused in one line, {len(found.wrong)} times otherwise; what "
        "stood before stood after each, and with room the run ended with the numbers of one that "
        f"always had it.\n\n| line | times |\n|---|---|\n{rows}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign; exit code 1 if anything was lost or not told in a line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.full_disk", description=__doc__)
    parser.add_argument("--points", type=int, default=24)
    parser.add_argument("--write", action="store_true", help="put the result into the docs")
    given = parser.parse_args(arguments)
    quiet()
    if not may_mount():
        sys.stdout.write("skipped: this user may not mount a disk\n")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        found = campaign(Path(folder), given.points)
    for line in found.wrong:
        sys.stdout.write(f"WRONG: {line}\n")
    text = told(found)
    sys.stdout.write(f"{text}\n")
    if given.write:
        write_part("full disk", text)
    return int(bool(found.wrong))


if __name__ == "__main__":
    sys.exit(main())
