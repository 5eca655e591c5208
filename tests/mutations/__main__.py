"""`python -m tests.mutations [WORD]`: each fault in turn; exit code 1 if one goes unnoticed."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.mutations.faults import FAULTS, Fault

ROOT: Final = Path(__file__).resolve().parents[2]
LEFT: Final = (".*", "runs", "__pycache__", "*.egg-info", "results")


def copy_to(folder: Path) -> Path:
    """The repository without what it has made."""
    return Path(shutil.copytree(ROOT, folder / "copy", ignore=shutil.ignore_patterns(*LEFT)))


def tested(copy: Path, tests: Iterable[str]) -> tuple[int, str]:
    """Pytest's exit code (0 all passed, 1 some failed, else they did not run) and output."""
    # Compiled files are told apart by size and second only, too little for one-letter faults.
    own = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **own}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


def outcome(copy: Path, fault: Fault) -> str:
    """`caught`, `survived`, or why nothing can be said; the copy is put back."""
    path = copy / fault.file
    text = path.read_text(encoding="utf-8")
    if text.count(fault.right) != 1:
        return "not found"
    path.write_text(text.replace(fault.right, fault.wrong), encoding="utf-8")
    try:
        return {0: "survived", 1: "caught"}.get(tested(copy, fault.tests)[0], "could not run")
    finally:
        path.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the faults whose name or file holds one of the words, or all; one on each processor."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD", help="of a fault's name or file")
    words = parser.parse_args(arguments).words
    chosen = [f for f in FAULTS if not words or any(w in f.name + f.file for w in words)]
    escaped = 0
    with tempfile.TemporaryDirectory() as folder:
        copies = [copy_to(Path(folder) / str(i)) for i in range(min(4, os.cpu_count() or 1))]
        every = dict.fromkeys(test for f in chosen for test in f.tests)
        code, shown = tested(copies[0], every)
        if code or not chosen:
            sys.stderr.write(f"{shown}\nno such fault, or its tests fail without it\n")
            return 2

        def tried(fault: Fault) -> tuple[Fault, str, float]:
            copy, start = copies.pop(), time.perf_counter()
            try:
                return fault, outcome(copy, fault), time.perf_counter() - start
            finally:
                copies.append(copy)

        with ThreadPoolExecutor(len(copies)) as pool:
            for fault, found, seconds in pool.map(tried, chosen):
                escaped += found != "caught"
                sys.stdout.write(f"{found:<13} {seconds:5.0f} s  {fault.file}: {fault.name}\n")
                sys.stdout.flush()
    sys.stdout.write(f"{len(chosen) - escaped} of {len(chosen)} faults caught\n")
    return int(escaped > 0)


if __name__ == "__main__":
    sys.exit(main())
