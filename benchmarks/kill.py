"""Is anything lost when a run is killed at any moment and started again?

A small run, from an endpoint's documents to the report, then attacks on it and an export of it, is
killed by SIGKILL at random moments and started again, some times in a row, until it ends. Its
metrics, documents, weights and exported weights must be those of a run that nothing disturbed; no
answered request may be asked again but what was under way, and no reply be made twice. What starts
has imported the libraries beforehand, so that kills meet work; figures are made but not drawn.
`python -m benchmarks.kill --kills 100 [--minutes M] [--write]`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks.reliability import small_home, type_in, untimed, what_follows, write_part
from offswitch.files import content_hash
from offswitch.folder import DATA, DIALOGUES_FILE, DOCUMENTS_FILE, SURVIVAL, TRAIN
from tests.data.llm_server import Behaviour, Server, serving
from tests.small import undraw

PARTS: Final = ("run", "endure", "export")
WHOLES: Final = 2  # undisturbed runs, which must be alike before anything is said of killed ones
IN_A_ROW: Final = 10  # kills before a run is left to end
SHARE: Final = 0.3  # of an undisturbed run's time: a kill comes after that at the latest
OPTIONS: Final = (
    "data.generator=llm", "data.llm.model=m", "data.llm.ideas_per_call=5", "data.documents=12",
    "data.llm.concurrency=4", "train.behavior.max_steps=6", "processes=1",
)  # fmt: skip
COUNTED: Final = re.compile(r" +[\d,]+/[\d,]+ in .*| /\S+")  # how far it was; a path
CONCURRENCY: Final = 4
SECONDS: Final = 0.02  # that an answer takes
STANDS: Final = (
    f"{DATA}/{DOCUMENTS_FILE}", f"{DATA}/{DIALOGUES_FILE}",
    f"{TRAIN}/behavior/adapter_model.safetensors", f"{SURVIVAL}/attacks.json",
)  # fmt: skip
EXPORTED: Final = ("adapter/adapter_model.safetensors", "merged", "parity.json")
LOADED: Final = (
    "offswitch.endure.stage", "offswitch.evaluate.stage",
    "offswitch.export.forms", "offswitch.probe.stage", "offswitch.report.build",
    "offswitch.study.stage", "offswitch.train.stage",
)  # fmt: skip


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
    hashes: dict[str, str | None]


def commands(home: Path, server: Server) -> list[list[str]]:
    """What is typed, one after another."""
    options = [*OPTIONS, f"data.llm.base_url={server.url}"]
    words = [part for option in options for part in ("--set", option)]
    run = ["run", str(home / "small.yaml"), *words, "--runs", str(home / "runs")]
    return [one for one in (run, *what_follows(home)) if one[0] in PARTS]


def typed(home: Path, words: Sequence[Sequence[str]]) -> None:
    """Do in this process what the commands do; what they say goes into a file."""
    os.environ["OFFSWITCH_CACHE"] = str(home / "cache")
    os.dup2(os.open(home / "said", os.O_WRONLY | os.O_APPEND | os.O_CREAT), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with pytest.MonkeyPatch.context() as figures:
        undraw(figures)
        for one in words:
            type_in(one)


def start(home: Path, server: Server) -> ForkServerProcess:
    """A process at work on the commands."""
    context = get_context("forkserver")
    context.set_forkserver_preload([*LOADED])
    process = context.Process(target=typed, args=(home, commands(home, server)))
    process.start()
    return process


def result_of(home: Path) -> Result:
    """What a home's finished run holds."""
    root = home / "runs" / "small"
    metrics = json.loads((root / "metrics.json").read_text(encoding="utf-8"))
    hashes = {name: content_hash(root / name) for name in STANDS}
    hashes |= {name: content_hash(home / "exported" / name) for name in EXPORTED}
    return Result(untimed(metrics), hashes)


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


def said_in(home: Path) -> str:
    """What the commands of a home said so far."""
    path = home / "said"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def disturbed(home: Path, whole: Result, longest: float, kills: int, draw: random.Random) -> Round:
    """A run that is killed so often, each time after at most `longest` seconds."""
    found = Round()
    with serving(Behaviour(seconds=SECONDS)) as server:
        while True:
            clock, process = time.perf_counter(), start(home, server)
            process.join(draw.uniform(0, longest) if len(found.at) < kills else None)
            if killed := process.is_alive():
                process.kill()
                process.join()
            found.seconds.append(time.perf_counter() - clock)
            said = said_in(home)
            if killed and process.exitcode == -9:
                found.at.append(said.strip().rpartition("\n")[2][:80])
                continue
            if process.exitcode or "Traceback" in said:
                found.wrong.append(f"exit code {process.exitcode}: {said[-800:]}")
                return found
            break
        repeated = sum(count - 1 for count in server.seen.values())
    if (result := result_of(home)) != whole:
        for ours, theirs in ((result.metrics, whole.metrics), (result.hashes, whole.hashes)):
            keys = ours.keys() | theirs.keys()
            found.wrong += [key for key in keys if ours.get(key) != theirs.get(key)][:5]
    if repeated > CONCURRENCY * len(found.at):
        found.wrong.append(f"{repeated} requests asked again")
    if again := twice(home / "runs" / "small" / "answers.jsonl"):
        found.wrong.append(f"{again} answers kept twice")
    for path in (home / "cache" / "replies").glob("*.jsonl"):
        if again := twice(path):
            found.wrong.append(f"{again} replies made twice")
    return found


def campaign(
    folder: Path, kills: int, seed: int, until: float = math.inf
) -> tuple[list[Round], float]:
    """Rounds until there were so many kills, or it is so late; the seconds of a run undisturbed."""
    draw, times, wholes = random.Random(seed), [], []
    rounds: list[Round] = []
    source = small_home(folder / "source")
    for number in range(WHOLES):
        home = Path(shutil.copytree(source, folder / f"whole-{number}"))
        with serving(Behaviour(seconds=SECONDS)) as server:
            clock, process = time.perf_counter(), start(home, server)
            process.join()
            times.append(time.perf_counter() - clock)
        if process.exitcode:
            raise RuntimeError(f"exit code {process.exitcode}: {said_in(home)}")
        wholes.append(result_of(home))
    whole = wholes[0]
    if any(one != whole for one in wholes):
        raise RuntimeError("two undisturbed runs differ, so nothing can be said of killed ones")
    while (left := kills - sum(len(one.at) for one in rounds)) > 0 and time.time() < until:
        home = Path(shutil.copytree(source, folder / f"round-{len(rounds)}"))
        rounds.append(disturbed(home, whole, SHARE * min(times), min(IN_A_ROW, left), draw))
        one = rounds[-1]
        at = f"{len(one.at)} kills, {sum(one.seconds):.1f} s, after {one.at}"
        sys.stdout.write(f"{'; '.join(one.wrong) or 'as undisturbed'}: {at}\n")
        sys.stdout.flush()
        shutil.rmtree(home)
    return rounds, min(times)


def told(rounds: Sequence[Round], whole: float) -> str:
    """What came of it, as Markdown."""
    kills = sum(len(one.at) for one in rounds)
    good = sum(len(one.at) for one in rounds if not one.wrong)
    lost = [(sum(one.seconds) - whole) / len(one.at) for one in rounds if one.at]
    said = (COUNTED.sub("", at.split(":")[0]).strip() for one in rounds for at in one.at)
    stages = Counter(at or "before anything was said" for at in said)
    where = "\n".join(f"| {stage} | {n} |" for stage, n in stages.most_common())
    spread = (
        f"{statistics.median(lost):.1f} s (of {len(lost)} runs: {min(lost):.1f} to {max(lost):.1f})"
    )
    return (
        f"{good} of {kills} kills, in {len(rounds)} runs, ended with the metrics, documents, chat "
        "rows, adapter and exported weights of an undisturbed run; no answer was kept twice and no "
        f"reply made twice. Undisturbed, `run`, `endure` and `export` take {whole:.1f} s with the "
        f"libraries imported; a kill costs {spread} (median over runs, lowest, highest), starting "
        "again included.\n\n"
        f"| killed after the line of | kills |\n|---|---|\n{where}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign; exit code 1 if anything was lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin nothing after that")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="put the result into the docs")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        until = time.time() + 60 * given.minutes
        rounds, whole = campaign(Path(folder), given.kills, given.seed, until)
    text = told(rounds, whole)
    sys.stdout.write(f"{text}\n")
    if given.write:
        write_part("kill", text)
    return int(any(one.wrong for one in rounds))


if __name__ == "__main__":
    sys.exit(main())
