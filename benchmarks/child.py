"""A measurement in a process of its own: its memory is its own, what kills it kills no other.

`python -m benchmarks.child MODULE:FUNCTION JOB.json OUT.json` calls the function with the job and
writes the numbers it returns.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.bench import Sample
from offswitch.folder.provenance import peak_memory_mb

ROOT: Final = Path(__file__).resolve().parents[1]
QUIET: Final = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "WANDB_MODE": "disabled",
}
LIMIT: Final = 1800  # seconds


def in_child(function: str, job: Mapping[str, Any], limit: float = LIMIT) -> Sample:
    """The numbers that `module:function` returns for a job, in a fresh process of this Python.

    `peak_mb`, the most memory it held, is added unless the function took it itself. A child that
    fails, is killed or takes longer than `limit` seconds is a sample with the reason.
    """
    with tempfile.TemporaryDirectory() as scratch:
        asked, out = Path(scratch) / "job.json", Path(scratch) / "out.json"
        asked.write_text(json.dumps(job), encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.child", function, str(asked), str(out)]
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=os.environ | QUIET,
                capture_output=True,
                text=True,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Sample({}, f"took longer than {limit:.0f} s")
        if done.returncode or not out.is_file():
            return Sample({}, _reason(done.returncode, done.stderr))
        return Sample(json.loads(out.read_text(encoding="utf-8")))


def _reason(code: int, said: str) -> str:
    """One line: the signal that ended it, or the last line of its traceback."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return " ".join(lines[-1].split())[:200] if lines else f"exit code {code}"


def main(function: str, asked: Path, out: Path) -> None:
    """Call the function with the job in `asked`; write what it returns."""
    module, _, name = function.partition(":")
    call: Callable[[dict[str, Any]], dict[str, float]] = getattr(
        importlib.import_module(module), name
    )
    numbers = call(json.loads(asked.read_text(encoding="utf-8")))
    out.write_text(json.dumps({"peak_mb": peak_memory_mb()} | numbers), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
