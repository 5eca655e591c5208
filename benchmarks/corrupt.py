"""Is a damaged file noticed, whatever its kind and however it was damaged?

A small run is finished, attacked and exported. A file of it, or of a cache, is then cut, flipped in
one bit, emptied, exchanged with another model's, put back to an earlier run's, or deleted. Whoever
reads it must refuse in one line that names it, or make it again; and the command that made the run
must end as if nothing had happened. `python -m benchmarks.corrupt [--only WORD] [--keep DIR]
[--write]`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import pytest

from benchmarks.corrupt_after import of_what_follows
from benchmarks.corrupt_caches import of_caches
from benchmarks.damage import (
    ARTEFACTS,
    DAMAGES,
    GOOD,
    HALF,
    REBUILT,
    RUN,
    SOURCES,
    UNNOTICED,
    UNREAD,
    Asked,
    Found,
    Sources,
    copied,
    damaged,
    judged,
    same,
    seen,
)
from benchmarks.reliability import at, ended, opened, small_home, untimed, write_part
from offswitch.errors import quiet
from offswitch.files import content_hash, read_jsonl, write_jsonl
from offswitch.notebook.opened import open_run as read_run
from offswitch.pipeline import evaluate, probe, report, train
from offswitch.probe.stage import analyse_again
from offswitch.talk.steer import steer_loop
from offswitch.talk.steering import Steering
from tests.small import undraw

WORK: Final = {
    "1-data": "offswitch.data.stage.write_data",
    "2-train": "offswitch.train.stage.write_arm",
    "3-evaluate": "offswitch.evaluate.stage.write_evaluation",
    "4-probe": "offswitch.probe.stage.write_probe",
    "5-report": "offswitch.report.build.build_report",
}

# --- who reads ------------------------------------------------------------------------------------


def readers(home: Path) -> dict[str, Callable[[], Any]]:
    """Other commands that read a run."""
    root = home / RUN
    what = Steering("remove", None, None, None, False)
    return {
        "open": lambda: read_run(root),
        "steer": lambda: steer_loop(root, None, what, ["Hello"], 2),
        "analyse": lambda: analyse_again(root, home / "again"),
    }


def finished(home: Path, changes: Sequence[str] = (), reported: bool = False) -> Path:
    """A home with its run finished, and its report if it is asked for."""
    with at(home / "cache"):
        run = opened(home, changes)
        probe(run, evaluate(run)) if not reported else report(run)
    return home


def trained(home: Path, changes: Sequence[str] = ()) -> None:
    """The same up to training."""
    with at(home / "cache"):
        train(opened(home, changes))


def numbers(home: Path) -> dict[str, Any]:
    """The run's metrics, but for times."""
    path = home / RUN / "metrics.json"
    return untimed(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


@contextmanager
def remade(root: Path, name: str, damage: str) -> Iterator[None]:
    """Within the block a stage that is made again is copied from the whole run, which is as good.

    Not so after the first damage to a stage: that it comes out as it was is tried once for each.
    """
    stage = name.partition("/")[0]
    if stage not in WORK:
        yield
        return
    place = root / (stage if stage != "2-train" else "2-train/behavior")

    def copy(*arguments: Any) -> None:
        shutil.copytree(place, arguments[-1], dirs_exist_ok=True)

    first = next(other for _, other, _ in ARTEFACTS if other.startswith(f"{stage}/"))
    if (name, damage) == (first, DAMAGES[0]):
        yield
        return
    with patch(WORK[stage], copy):
        yield


def of_a_run(sources: Sources, work: Path, asked: Asked) -> Iterator[Found]:
    """Every kind of file of a finished run."""
    expected = numbers(sources.whole)
    for kind, name, reader in ARTEFACTS:
        for damage in (one for one in DAMAGES if asked(kind, one)):
            home = copied(sources.whole, work)
            path = home / RUN / name
            if not damaged(path, damage, f"{RUN}/{name}", sources):
                continue
            by_reader = ""
            if reader:
                by_reader = judged(ended(readers(home)[reader]), path, lambda: False)
            again: Callable[[], Any] = partial(finished, home, reported=name.startswith("5-report"))
            if name.startswith("2-train"):  # all that follows would run too, and says nothing of it
                again = partial(trained, home)
            with remade(sources.whole / RUN, name, damage):
                done, read = seen(path, damage, again)
            outcome = judged(done, path, partial(same, numbers, home, expected))
            outcome = outcome if read else UNREAD
            after = ended(readers(home)["open"])
            if outcome == REBUILT and after.code:
                outcome, done = UNNOTICED, after
            yield Found(kind, damage, outcome, by_reader, done.said)


def half(sources: Sources, work: Path, asked: Asked) -> Iterator[Found]:
    """What lies there after a kill: at the end of training, and of the measurements of a probe."""
    adapter = "2-train/behavior/adapter_model.safetensors"

    stages: dict[str, tuple[str, Callable[..., Any], Callable[[Path], Any]]] = {
        "train": ("offswitch.train.arms.save_adapter", trained,
                  lambda home: content_hash(home / RUN / adapter)),
        "probe": ("offswitch.probe.stage.analyse", finished,
                  lambda home: {k: v for k, v in numbers(home).items() if k[:7] != "verdict"}),
    }  # fmt: skip
    for stage, (function, resumed, result) in stages.items():
        tries = [(kind, name, damage) for kind, name, where in HALF if where == stage
                 for damage in DAMAGES if asked(kind, damage)]  # fmt: skip
        killed = Sources(*(work.with_name(f"half-{name}") for name in SOURCES))
        for name in SOURCES if tries else ():
            if not (source := getattr(sources, name)).exists():
                continue
            home = copied(source, getattr(killed, name))
            shutil.rmtree(home / "runs")
            seed = ["seed=1"] if name == "earlier" else []
            with patch(function, side_effect=RuntimeError("killed")):
                stopped = ended(partial(resumed, home, seed))
            if "killed" not in stopped.said:
                raise RuntimeError(stopped.said)
        for kind, name, damage in tries:
            home = copied(killed.whole, work)
            path = home / RUN / ".partial" / name
            if not damaged(path, damage, f"{RUN}/.partial/{name}", killed):
                continue
            done, read = seen(path, damage, partial(resumed, home))
            outcome = judged(done, path, partial(same, result, home, result(sources.whole)))
            yield Found(kind, damage, outcome if read else UNREAD, "", done.said)


def campaign(folder: Path, asked: Asked) -> Iterator[Found]:
    """Every damage that is asked for, in a folder whose runs are made where they are missing."""
    wanted = {"whole", *(damage.rpartition(" ")[2].removesuffix("'s") for damage in DAMAGES)}
    reported = any(asked(kind, damage) for kind, name, _ in ARTEFACTS for damage in DAMAGES
                   if name.startswith("5-report"))  # fmt: skip
    for name in SOURCES:
        if name in wanted:
            seed = ["seed=1"] if name == "earlier" else []
            home, architecture = folder / name, "qwen2" if name == "another" else "llama"
            if not (home / "small.yaml").is_file():
                small_home(home, architecture)
            finished(home, seed, reported)
    sources = Sources(*(folder / name for name in SOURCES))
    for part in (of_a_run, half, of_caches, of_what_follows):
        yield from part(sources, folder / "work", asked)


def table(found: Sequence[Found]) -> str:
    """What became of each, as Markdown."""
    kinds = list(dict.fromkeys(one.kind for one in found))
    lines = ["| file | " + " | ".join(DAMAGES) + " |", "|---|" + "---|" * len(DAMAGES)]
    for kind in kinds:
        cells = []
        for damage in DAMAGES:
            one = next((f for f in found if (f.kind, f.damage) == (kind, damage)), None)
            both = [one.outcome, one.reader] if one else ["–"]
            cells.append(", ".join(part for part in both if part))
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    counts = Counter(one.outcome for one in found)
    bad = sum(n for outcome, n in counts.items() if outcome not in GOOD)
    told = ", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items()))
    head = f"{len(found)} damages: {told}; {bad} unnoticed or not told well."
    return f"{head}\n\n" + "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign; exit code 1 if a damage went unnoticed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corrupt", description=__doc__)
    parser.add_argument("--only", default="", metavar="WORD", help="kinds of files with this word")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="go on with what stands there")
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    given = parser.parse_args(arguments)
    quiet()
    # Figures are made but not drawn: that takes longer than all the rest.
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as figures:
        undraw(figures)
        place = given.keep or Path(folder)
        known = place / "found.jsonl"
        rows = read_jsonl(known) if known.is_file() else ()
        found = [Found(**row) for _, row in rows]
        done = {(one.kind, one.damage) for one in found}
        for one in campaign(
            place, lambda kind, how: given.only in kind and (kind, how) not in done
        ):
            found.append(one)
            sys.stdout.write(f"{one.outcome:<10} {one.reader:<10} {one.kind}: {one.damage}\n")
            if one.outcome not in GOOD or one.reader not in ("", *GOOD):
                sys.stdout.write(f"    {one.said.strip()[-1500:]}\n")
            sys.stdout.flush()
            write_jsonl(known, map(asdict, found))
    text = table(found)
    sys.stdout.write(f"{text}\n")
    if given.write:
        write_part("corrupt", text)
    return int(any(one.outcome not in GOOD or one.reader not in ("", *GOOD) for one in found))


if __name__ == "__main__":
    sys.exit(main())
