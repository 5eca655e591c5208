"""`python -m tests.mutations [WORD]`: each fault in turn; exit code 1 if one goes unnoticed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
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
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(copy)}
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


def main(words: Sequence[str]) -> int:
    """Try the faults whose name or file holds one of the words, or all."""
    chosen = [f for f in FAULTS if not words or any(w in f.name + f.file for w in words)]
    escaped = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_to(Path(folder))
        code, shown = tested(copy, dict.fromkeys(test for f in chosen for test in f.tests))
        if code or not chosen:
            sys.stderr.write(f"{shown}\nno such fault, or its tests fail without it\n")
            return 2
        for fault in chosen:
            start = time.perf_counter()
            found = outcome(copy, fault)
            escaped += found != "caught"
            seconds = time.perf_counter() - start
            sys.stdout.write(f"{found:<13} {seconds:5.0f} s  {fault.file}: {fault.name}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(chosen) - escaped} of {len(chosen)} faults caught\n")
    return int(escaped > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
