"""How long until something happens? `offswitch --help`, and the model from the cache.

Wall time of whole processes, the interpreter's own start included and shown beside them; the model
is ready when it is loaded and verified, counted from after the imports.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

from benchmarks.bench import Peer, Sample, chosen, interleave, job
from benchmarks.child import ROOT, in_child
from benchmarks.command import Options, section_command
from benchmarks.results import Measure, Section

PEERS: Final = (
    Peer("python", "an interpreter that does nothing"),
    Peer("help", "offswitch --help"),
    Peer("model", "load_subject, from the cache, verified"),
)
COMMANDS: Final = {
    "python": [sys.executable, "-c", "pass"],
    "help": [sys.executable, "-c", "from offswitch.cli import app; app(['--help'])"],
}
MEASURES: Final = (Measure("seconds", "seconds", 3),)
TIMES: Final = 3  # repeats for each that was asked for: these are short


def run(options: Options) -> Section:
    """Every start in turn, each a fresh process; the first round fills caches and is dropped."""
    peers = chosen(PEERS, options.only)
    rounds = 1 + options.repeats * TIMES
    options.say(f"start-up: {rounds} rounds")
    found = interleave([p.name for p in peers], rounds, lambda name: _run(name, options))
    kept = {name: samples[1:] or samples for name, samples in found.items()}
    return Section("Start-up", "", tuple(peers), MEASURES, kept)


def _run(name: str, options: Options) -> Sample:
    if name == "model":
        return in_child("benchmarks.startup:load", job(model=options.folder))
    start = time.perf_counter()
    done = subprocess.run(COMMANDS[name], cwd=ROOT, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    return Sample({}, done.stderr[-200:]) if done.returncode else Sample({"seconds": seconds})


def load(asked: dict[str, Any]) -> dict[str, float]:
    """Load the model as every command does, for a child."""
    from benchmarks.material import bench_recipe
    from offswitch.model.load import load_subject

    start = time.perf_counter()
    load_subject(bench_recipe(asked["model"]))
    return {"seconds": time.perf_counter() - start}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run this section alone and print its table."""
    section_command(run, argparse.ArgumentParser(description=__doc__), arguments)


if __name__ == "__main__":
    main()
