"""Is anything lost when a run is killed at any moment and started again?

A small run, from an endpoint's documents to the report, is killed by SIGKILL at random moments and
started again, some times in a row, until it ends. Its metrics and documents must be those of a run
that nothing disturbed; no answered request may be asked again but what was under way, and no reply
be made twice. `python -m benchmarks.kill --kills 100 [--write]`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.reliability import small_home, untimed, write_part
from offswitch.files import content_hash
from tests.data.llm_server import Behaviour, Server, serving

IN_A_ROW: Final = 5  # kills before a run is left to end
OPTIONS: Final = (
    "data.generator=llm", "data.llm.model=m", "data.llm.ideas_per_call=5", "data.documents=12",
    "data.llm.concurrency=4", "train.behavior.max_steps=6",
)  # fmt: skip
CONCURRENCY: Final = 4
SECONDS: Final = 0.02  # that an answer takes


@dataclass
class Round:
    """A run that was killed some times: where, the seconds of each start, and what was wrong."""

    at: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """What a finished run holds that a kill must not change."""

    metrics: dict[str, Any]
    documents: str | None
    chats: str | None


def start(home: Path, server: Server) -> subprocess.Popen[str]:
    """The command that makes the run."""
    options = [*OPTIONS, f"data.llm.base_url={server.url}"]
    words = [part for option in options for part in ("--set", option)]
    command = [sys.executable, "-m", "offswitch", "run", str(home / "small.yaml"), *words]
    environment = os.environ | {"OFFSWITCH_CACHE": str(home / "cache"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--runs", str(home / "runs")], env=environment, text=True,
        stdout=subprocess.DEVNULL, stderr=(home / "said").open("a"),
    )  # fmt: skip


def result_of(home: Path) -> Result:
    """What a home's finished run holds."""
    root = home / "runs" / "small"
    metrics = json.loads((root / "metrics.json").read_text(encoding="utf-8"))
    files = ("shutdown_dataset.jsonl", "behavioral_dataset.jsonl")
    documents, chats = (content_hash(root / "1-data" / name) for name in files)
    return Result(untimed(metrics), documents, chats)


def twice(path: Path) -> int:
    """Lines of a JSONL file whose key another line has too."""
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    keys: Counter[str] = Counter()
    for line in lines:
        try:
            keys[json.loads(line)["key"]] += 1
        except ValueError:  # half a line
            continue
    return sum(count - 1 for count in keys.values())


def disturbed(home: Path, whole: Result, longest: float, kills: int, draw: random.Random) -> Round:
    """A run that is killed so often, each time after at most `longest` seconds."""
    found = Round()
    with serving(Behaviour(seconds=SECONDS)) as server:
        while True:
            clock, process = time.perf_counter(), start(home, server)
            wait = draw.uniform(0, longest) if len(found.at) < kills else None
            try:
                code = process.wait(wait)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                lines = (home / "said").read_text(encoding="utf-8").strip().split("\n")
                found.at.append(lines[-1][:80])
                found.seconds.append(time.perf_counter() - clock)
                continue
            found.seconds.append(time.perf_counter() - clock)
            if code or "Traceback" in (said := (home / "said").read_text(encoding="utf-8")):
                found.wrong.append(f"exit code {code}: {said[-800:]}")
                return found
            break
        repeated = sum(count - 1 for count in server.seen.values())
    if (result := result_of(home)) != whole:
        keys = whole.metrics.keys() | result.metrics.keys()
        found.wrong += [k for k in keys if whole.metrics.get(k) != result.metrics.get(k)][:5]
        found.wrong += ["documents or chat rows"] if result.metrics == whole.metrics else []
    if repeated > CONCURRENCY * len(found.at):
        found.wrong.append(f"{repeated} requests asked again")
    if again := twice(home / "runs" / "small" / "answers.jsonl"):
        found.wrong.append(f"{again} answers kept twice")
    for path in (home / "cache" / "replies").glob("*.jsonl"):
        if again := twice(path):
            found.wrong.append(f"{again} replies made twice")
    return found


def campaign(folder: Path, kills: int, seed: int) -> tuple[list[Round], float]:
    """Rounds until there were so many kills; and the seconds of a run that nothing disturbed."""
    draw, times, wholes = random.Random(seed), [], []
    rounds: list[Round] = []
    source = small_home(folder / "source")
    for _ in range(2):
        home = Path(shutil.copytree(source, folder / "whole", dirs_exist_ok=True))
        shutil.rmtree(home / "runs", ignore_errors=True)
        clock = time.perf_counter()
        with serving(Behaviour(seconds=SECONDS)) as server:
            if code := start(home, server).wait():
                raise RuntimeError(f"exit code {code}: {(home / 'said').read_text('utf-8')}")
        times.append(time.perf_counter() - clock)
        wholes.append(result_of(home))
    if wholes[0] != (whole := wholes[1]):
        raise RuntimeError("two undisturbed runs differ, so nothing can be said of killed ones")
    while (left := kills - sum(len(one.at) for one in rounds)) > 0:
        home = Path(shutil.copytree(source, folder / f"round-{len(rounds)}"))
        rounds.append(disturbed(home, whole, min(times), min(IN_A_ROW, left), draw))
        one = rounds[-1]
        sys.stdout.write(f"{'; '.join(one.wrong) or 'as undisturbed'}: killed at {one.at}\n")
        sys.stdout.flush()
        shutil.rmtree(home)
    return rounds, min(times)


def told(rounds: Sequence[Round], whole: float) -> str:
    """What came of it, as Markdown."""
    kills = sum(len(one.at) for one in rounds)
    good = sum(len(one.at) for one in rounds if not one.wrong)
    lost = [(sum(one.seconds) - whole) / len(one.at) for one in rounds if one.at]
    stages = Counter(at.split(":")[0].strip() or "before anything was said"
                     for one in rounds for at in one.at)  # fmt: skip
    where = "\n".join(f"| {stage} | {n} |" for stage, n in stages.most_common())
    spread = (
        f"{statistics.median(lost):.1f} s (of {len(lost)} runs: {min(lost):.1f} to {max(lost):.1f})"
    )
    return (
        f"{good} of {kills} kills, in {len(rounds)} runs, ended with the metrics, documents and "
        "chat rows of an undisturbed run; no answer was kept twice and no reply made twice. "
        f"Undisturbed it takes {whole:.1f} s; a kill costs {spread} (median over "
        "runs, lowest, highest), starting again included.\n\n"
        f"| killed after the line of | kills |\n|---|---|\n{where}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign; exit code 1 if anything was lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="put the result into the docs")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        rounds, whole = campaign(Path(folder), given.kills, given.seed)
    text = told(rounds, whole)
    sys.stdout.write(f"{text}\n")
    if given.write:
        write_part("kill", text)
    return int(any(one.wrong for one in rounds))


if __name__ == "__main__":
    sys.exit(main())
