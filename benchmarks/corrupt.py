"""Is a damaged file noticed, whatever its kind and however it was damaged?

A small run is finished. A file of it, or of a cache, is then cut, flipped in one bit, emptied,
exchanged with another model's, put back to an earlier run's, or deleted. Whoever reads it must
refuse in one line that names it, or make it again; and the command that made the run must end as if
nothing had happened. `python -m benchmarks.corrupt [--only WORD] [--write]`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import pytest

from benchmarks.damage import ARTEFACTS, DAMAGES, HALF, RUN, Sources, damaged
from benchmarks.reliability import Ended, at, ended, opened, small_home, untimed, write_part
from offswitch.data.llm.journal import Entry, open_journal, read_journal
from offswitch.errors import quiet
from offswitch.files import content_hash
from offswitch.model.gguf import unpack
from offswitch.notebook.opened import open_run as read_run
from offswitch.pipeline import evaluate, make_data, probe, report
from offswitch.probe.stage import analyse_again
from offswitch.talk.steer import steer_loop
from offswitch.talk.steering import Steering
from tests.model.ggufs import save_gguf
from tests.small import undraw

REBUILT, REFUSED = "rebuilt", "refused"
UNNOTICED, TRACEBACK, UNCLEAR = "UNNOTICED", "TRACEBACK", "UNCLEAR"
GOOD: Final = (REBUILT, REFUSED)


@dataclass(frozen=True)
class Found:
    """What became of one damage: by the command that made the file, and by another reader."""

    kind: str
    damage: str
    outcome: str
    reader: str
    said: str


def judged(done: Ended, path: Path, as_before: Callable[[], bool]) -> str:
    """What an end means: one line that names the file, or all as it was before."""
    if done.code == 1:
        return TRACEBACK
    if done.code:
        named = any(part in done.last for part in (path.name, path.parent.name))
        return REFUSED if named and len(done.last) < 500 else UNCLEAR
    return REBUILT if as_before() else UNNOTICED


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


def numbers(home: Path) -> dict[str, Any]:
    """The run's metrics, but for times."""
    path = home / RUN / "metrics.json"
    return untimed(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def of_a_run(sources: Sources, work: Path, word: str) -> Iterator[Found]:
    """Every kind of file of a finished run."""
    expected = numbers(sources.whole)
    for kind, name, reader in ARTEFACTS:
        for damage in DAMAGES if word in kind else ():
            home = _copy(sources.whole, work)
            path = home / RUN / name
            if not damaged(path, damage, f"{RUN}/{name}", sources):
                continue
            seen = ""
            if reader:
                by = ended(readers(home)[reader])
                seen = judged(by, path, lambda: False)
            done = ended(partial(finished, home, reported=name.startswith("5-report")))
            outcome = judged(done, path, partial(_same, numbers, home, expected))
            after = ended(readers(home)["open"])
            if outcome == REBUILT and after.code:
                outcome, done = UNNOTICED, after
            yield Found(kind, damage, outcome, seen, done.said)


def half(sources: Sources, work: Path, word: str) -> Iterator[Found]:
    """What lies there after a kill."""
    expected = numbers(sources.whole)
    where = {"train": "offswitch.train.arms.save_adapter", "probe": "offswitch.probe.stage.analyse"}
    for stage, function in where.items():
        kinds = [one for one in HALF if one[2] == stage and word in one[0]]
        killed: dict[str, Path] = {}
        for name in ("whole", "another", "earlier") if kinds else ():
            home = killed[name] = _copy(getattr(sources, name), work.with_name(f"half-{name}"))
            shutil.rmtree(home / "runs")
            seed = ["seed=1"] if name == "earlier" else []
            with patch(function, side_effect=RuntimeError("killed")):
                stopped = ended(partial(finished, home, seed))
            if "killed" not in stopped.said:
                raise RuntimeError(stopped.said)
        for kind, name, _ in kinds:
            for damage in DAMAGES:
                home = _copy(killed["whole"], work)
                path = home / RUN / ".partial" / name
                if not damaged(path, damage, f"{RUN}/.partial/{name}", Sources(**killed)):
                    continue
                done = ended(partial(finished, home))
                outcome = judged(done, path, partial(_same, numbers, home, expected))
                yield Found(kind, damage, outcome, "", done.said)


def of_caches(sources: Sources, work: Path, word: str) -> Iterator[Found]:
    """The base model's replies, an unpacked model, an endpoint's answers."""
    data = "1-data/behavioral_dataset.jsonl"
    expected = content_hash(sources.whole / RUN / data)

    def again(home: Path) -> None:
        with at(home / "cache"):
            make_data(opened(home))

    for damage in DAMAGES if word in "cache: the model's replies" else ():
        home = _copy(sources.whole, work)
        shutil.rmtree(home / "runs")
        path = next((home / "cache" / "replies").iterdir())
        for other in (sources.another, sources.earlier):  # under this model's name
            theirs = next((other / "cache" / "replies").iterdir())
            if theirs.name != path.name:
                shutil.copy(theirs, theirs.with_name(path.name))
        if damaged(path, damage, f"cache/replies/{path.name}", sources):
            done = ended(partial(again, home))
            same = partial(_same, content_hash, home / RUN / data, expected)
            yield Found(
                "cache: the model's replies", damage, judged(done, path, same), "", done.said
            )
    if word in "cache: an unpacked model":
        yield from _models(work)
    if word in "answers of an endpoint":
        yield from _answers(work)


def _models(work: Path) -> Iterator[Found]:
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for name, architecture in (("own", "llama"), ("another", "qwen2")):
        save_gguf(work / f"{name}.gguf", architecture)
        unpack(work / f"{name}.gguf", work / name)
    whole = content_hash(work / "own")
    for file in ("model.safetensors", "config.json", "tokenizer.json", "hashes.json"):
        for damage in DAMAGES:
            home = work / "home"
            shutil.rmtree(home, ignore_errors=True)
            shutil.copytree(work / "own", home)
            sources = Sources(work / "own", work / "another", work / "own")
            if damaged(home / file, damage, file, sources):
                done = ended(partial(unpack, work / "own.gguf", home))
                same = partial(_same, content_hash, home, whole)
                outcome = judged(done, home / file, same)
                yield Found(f"cache: an unpacked model, {file}", damage, outcome, "", done.said)


def _answers(work: Path) -> Iterator[Found]:
    for name in ("whole", "another", "earlier"):
        (work / name).mkdir(parents=True, exist_ok=True)
        with open_journal(work / name / "answers.jsonl") as journal:
            for i in range(3):
                journal.add(
                    Entry(f"draft/{i}", f"{name}{i}", {"content": f"{name} {i}"}, None, 1, 1)
                )
    sources = Sources(work / "whole", work / "another", work / "earlier")
    own = {f"whole{i}": {"content": f"whole {i}"} for i in range(3)}
    for damage in DAMAGES:
        home = work / "home"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(sources.whole, home)
        path = home / "answers.jsonl"
        if damaged(path, damage, path.name, sources):
            done = ended(partial(_usable, path))
            # What is left is asked again; what is there must be what was answered.
            known = {key: one.answer for key, one in (done.value or {}).items() if key in own}
            same = partial(_same, own.items().__ge__, known.items(), True)
            yield Found("answers of an endpoint", damage, judged(done, path, same), "", done.said)


def _usable(path: Path) -> dict[str, Entry]:
    return read_journal(path).usable


def _same(read: Callable[[Any], Any], place: Any, expected: Any) -> bool:
    found: bool = read(place) == expected
    return found


def _copy(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


def campaign(folder: Path, word: str = "") -> Iterator[Found]:
    """Every damage to every kind of file whose name holds the word."""
    homes = {"whole": "llama", "another": "qwen2", "earlier": "llama"}
    for name, architecture in homes.items():
        seed = ["seed=1"] if name == "earlier" else []
        finished(small_home(folder / name, architecture), seed, reported=True)
    sources = Sources(*(folder / name for name in homes))
    for part in (of_a_run, half, of_caches):
        yield from part(sources, folder / "work", word)


def table(found: Sequence[Found], seconds: float) -> str:
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
    head = f"{len(found)} damages in {seconds:.0f} s: {told}; {bad} unnoticed or not told well."
    return f"{head}\n\n" + "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign; exit code 1 if a damage went unnoticed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corrupt", description=__doc__)
    parser.add_argument("--only", default="", metavar="WORD", help="kinds of files with this word")
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    given = parser.parse_args(arguments)
    quiet()
    clock, found = time.perf_counter(), []
    # Figures are made but not drawn: that takes longer than all the rest.
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as figures:
        undraw(figures)
        for one in campaign(Path(folder), given.only):
            found.append(one)
            sys.stdout.write(f"{one.outcome:<10} {one.reader:<10} {one.kind}: {one.damage}\n")
            if one.outcome not in GOOD or one.reader not in ("", *GOOD):
                sys.stdout.write(f"    {one.said.strip()[-1500:]}\n")
            sys.stdout.flush()
    text = table(found, time.perf_counter() - clock)
    sys.stdout.write(f"{text}\n")
    if given.write:
        write_part("corrupt", text)
    return int(any(one.outcome not in GOOD or one.reader not in ("", *GOOD) for one in found))


if __name__ == "__main__":
    sys.exit(main())
