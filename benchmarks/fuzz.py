"""Does anything that a stranger hands in end in other than a clean error?

Every parser (targets.py) is given inputs that grow from whole samples. With the extra `fuzz`,
atheris chooses them by the code that they reach; without it they are cut, joined and flipped at
random. `python -m benchmarks.fuzz --inputs 1000000 [--only WORD] [--write]`.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from offswitch.errors import quiet

if TYPE_CHECKING:
    from benchmarks.targets import Target

LONGEST: Final = 4096  # bytes of an input
PACED: Final = 200  # inputs by which the speed of a parser is told
LEAST: Final = 10_000  # inputs that a parser gets, however slow it is
PIECES: Final = (
    b"\0", b"\xff", b"\xf0\x9f", b"\n", b"\r", b'"', b"[" * 40, b"{" * 40, b"&a [*a]", b"*a",
    b"!!python/object/apply:os.system [a]", b"../" * 8, b"/dev/zero", b"nan", b".inf", b"1e999",
    b"9" * 5000, b"\\ud800", b"{{", b"{%", b"|attr('__class__')", b"null", b"-1", b"\x1b]0;a\x07",
    b"\xe2\x80\xae", b"__proto__", b"\xef\xbb\xbf",
)  # fmt: skip


@dataclass(frozen=True)
class Tried:
    """What became of a parser's inputs."""

    name: str
    inputs: int
    refused: int
    crashes: tuple[str, ...]
    seconds: float
    how: str
    mended: int


def mutated(draw: random.Random, samples: Sequence[bytes]) -> bytes:
    """A sample with some bytes flipped, taken out, doubled, or replaced by what parsers dislike."""
    data = bytearray(draw.choice(samples))
    for _ in range(draw.randint(1, 6)):
        at = draw.randrange(len(data) + 1)
        to = min(len(data), at + draw.randint(0, 24))
        match draw.randrange(5):
            case 0 if at < len(data):
                data[at] ^= 1 << draw.randrange(8)
            case 1:
                del data[at:to]
            case 2:
                data[at:at] = draw.choice(PIECES)
            case 3:
                data[at:to] = draw.choice(samples)[at:to][::-1]
            case _:
                data[at:at] = data[at:to] * draw.randint(1, 8)
    return bytes(data[:LONGEST])


def at_random(target: Target, inputs: int, seed: int = 0) -> Tried:
    """So many mutated samples; crashes are told apart by where they were raised."""
    draw, found = random.Random(f"{target.name}/{seed}"), Counter[str]()
    crashes: dict[str, str] = {}
    pool = [*target.samples]
    clock = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=_fast()) as folder:
        for i in range(inputs):
            data = pool[i] if i < len(target.samples) else mutated(draw, pool)
            try:
                outcome = target(data, Path(folder))
            except Exception as error:
                frame = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
                crashes.setdefault(place, f"{place}: {str(error)[:120]!r} of {data[:200]!r}")
                outcome = "crashed"
            found[outcome] += 1
            if outcome == "read" and len(pool) < 64:
                pool.append(data)
    seconds = time.perf_counter() - clock
    told = tuple(crashes.values())
    return Tried(target.name, inputs, found["refused"], told, seconds, "at random", target.mended)


def by_coverage(chosen: Sequence[Target], counts: Sequence[int], seconds: float) -> Iterator[Tried]:
    """The same led by atheris, in processes of their own, which share one import.

    They end after so many seconds, of which each has an equal share of what is left.
    """
    with tempfile.TemporaryDirectory(dir=_fast()) as folder:
        for target in chosen:
            (corpus := Path(folder) / target.name / "corpus").mkdir(parents=True)
            for sample in target.samples:
                (corpus / hashlib.sha256(sample).hexdigest()[:16]).write_bytes(sample)
        asked = json.dumps({one.name: n for one, n in zip(chosen, counts, strict=True)})
        command = [sys.executable, "-m", "benchmarks.fuzz", "--led", asked, "--folder", folder]
        command += ["--minutes", str(seconds / 60)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as led:
            for target, line in zip(chosen, led.stdout or (), strict=False):
                code, tried, refused, took = map(float, line.split())
                said = (Path(folder) / target.name / "said").read_text("utf-8", errors="replace")
                crashes = () if not code else (said[-1500:],)
                yield Tried(target.name, int(tried), int(refused), crashes, took,
                            "by coverage", target.mended)  # fmt: skip


def _lead(asked: Mapping[str, int], folder: Path, seconds: float) -> None:
    """Let atheris try parsers, each in a fork of this process, since it ends the one it works in.

    A line of each says how it ended, how many inputs were tried and refused, in how many seconds.
    """
    import atheris

    with atheris.instrument_imports(include=["offswitch", "yaml", "jinja2", "gguf"]):
        from benchmarks.targets import targets
    until = time.time() + seconds
    every = [target for target in targets() if target.name in asked]
    for i, target in enumerate(every):
        place, clock = folder / target.name, time.perf_counter()
        share = max(1.0, (until - time.time()) / (len(every) - i))
        if not (child := os.fork()):
            os.dup2(os.open(place / "said", os.O_WRONLY | os.O_CREAT), 2)
            os.dup2(2, 1)
            _tried(target, asked[target.name], place, share)
            os._exit(1)  # it should have ended
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        counted = place / "counted"
        told = counted.read_text(encoding="utf-8") if counted.exists() else "0 0"
        sys.stdout.write(f"{code} {told} {time.perf_counter() - clock}\n")
        sys.stdout.flush()


def _tried(target: Target, inputs: int, place: Path, seconds: float) -> None:
    """Let atheris try a parser; it ends the process."""
    import atheris

    tried = [0, 0]
    (files := place / "files").mkdir()

    def one(data: bytes) -> None:
        tried[1] += target(data, files) == "refused"
        tried[0] += 1
        if tried[0] % 100 == 0 or tried[0] >= inputs:
            (place / "counted").write_text(f"{tried[0]} {tried[1]}", encoding="utf-8")

    # Long enough for a machine that stops this process for others' sake.
    options = [f"-runs={inputs}", f"-max_len={LONGEST}", "-timeout=1200", "-rss_limit_mb=4096"]
    options += [f"-max_total_time={seconds:.0f}"] if seconds < math.inf else []
    options += [f"-artifact_prefix={place}/", str(place / "corpus")]
    atheris.Setup([sys.argv[0], *options], one)
    atheris.Fuzz()


def shares(chosen: Sequence[Target], inputs: int) -> list[int]:
    """How many of the inputs each parser gets: by the square of its speed, so fast ones get most.

    The fastest takes what the others leave, so that there are as many in all.
    """
    speeds = [PACED / at_random(target, PACED, seed=-1).seconds for target in chosen]
    least = min(LEAST, inputs // len(chosen))
    squares = sum(speed**2 for speed in speeds)
    found = [max(least, int(inputs * speed**2 / squares)) for speed in speeds]
    found[speeds.index(max(speeds))] += max(0, inputs - sum(found))
    return found


def _fast() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def table(found: Sequence[Tried]) -> str:
    """What became of each parser's inputs, as Markdown."""
    rows = [
        f"| {one.name} | {one.inputs:,} | {one.refused:,} | {len(one.crashes)} | {one.mended} | "
        f"{one.how} | {one.seconds:.0f} |"
        for one in found
    ]
    total, crashes = sum(one.inputs for one in found), sum(len(one.crashes) for one in found)
    names = ("parser", "inputs", "of them refused", "crashes", "found and repaired before",
             "chosen", "seconds")  # fmt: skip
    head = f"| {' | '.join(names)} |\n{'|---' * len(names)}|"
    return f"{total:,} inputs, {crashes} crashes.\n\n{head}\n" + "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Try every parser; exit code 1 if one crashed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="over all parsers")
    parser.add_argument("--only", default="", metavar="WORD", help="parsers with this word")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="by coverage: at most so long"
    )
    parser.add_argument("--at-random", action="store_true", help="without atheris")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    parser.add_argument("--led", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    quiet()
    warnings.simplefilter("ignore")  # what libraries say of the inputs
    if given.led:
        _lead(given.led, given.folder, 60 * given.minutes)
        return 0
    from benchmarks.targets import targets

    guided = importlib.util.find_spec("atheris") is not None and not given.at_random
    chosen: list[Any] = [one for one in targets() if given.only in one.name]
    counts, found = shares(chosen, given.inputs), []
    each = zip(chosen, counts, strict=True)
    tries = (at_random(target, count, given.seed) for target, count in each)
    for one in by_coverage(chosen, counts, 60 * given.minutes) if guided else tries:
        found.append(one)
        sys.stdout.write(f"{one.name}: {one.inputs:,} inputs, {one.refused:,} refused\n")
        sys.stdout.writelines(f"  {crash}\n" for crash in one.crashes)
        sys.stdout.flush()
    text = table(found)
    sys.stdout.write(f"{text}\n")
    if given.write:
        from benchmarks.reliability import write_part

        write_part("fuzz", text)
    return int(any(one.crashes for one in found))


if __name__ == "__main__":
    sys.exit(main())
