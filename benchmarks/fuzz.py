"""Does anything that a stranger hands in end in other than a clean error?

Every parser (targets.py) is given inputs that grow from whole samples. With the extra `fuzz`,
atheris chooses them by the code that they reach; without it they are cut, joined and flipped at
random. `python -m benchmarks.fuzz --inputs 1000000 [--only WORD] [--write]`.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import random
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

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


def by_coverage(target: Target, inputs: int) -> Tried:
    """The same in a process of its own, led by atheris."""
    clock = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=_fast()) as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for sample in target.samples:
            (corpus / hashlib.sha256(sample).hexdigest()[:16]).write_bytes(sample)
        command = [sys.executable, "-m", "benchmarks.fuzz", "--child", target.name]
        command += ["--inputs", str(inputs), "--folder", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        counted = Path(folder) / "counted"
        told = counted.read_text(encoding="utf-8") if counted.exists() else "0 0"
        tried, refused = map(int, told.split())
    crashes = () if done.returncode == 0 else (done.stderr[-1500:],)
    seconds = time.perf_counter() - clock
    return Tried(target.name, tried, refused, crashes, seconds, "by coverage", target.mended)


def _child(name: str, inputs: int, folder: Path) -> None:
    """Let atheris try a parser; it ends the process."""
    import atheris

    with atheris.instrument_imports(include=["offswitch", "yaml", "jinja2", "gguf"]):
        from benchmarks.targets import targets
    target = next(one for one in targets() if one.name == name)
    tried = [0, 0]
    place = folder / "files"
    place.mkdir()

    def one(data: bytes) -> None:
        tried[1] += target(data, place) == "refused"
        tried[0] += 1
        if tried[0] % 500 == 0 or tried[0] >= inputs:
            (folder / "counted").write_text(f"{tried[0]} {tried[1]}", encoding="utf-8")

    options = [f"-runs={inputs}", f"-max_len={LONGEST}", "-timeout=30", "-rss_limit_mb=4096"]
    options += [f"-artifact_prefix={folder}/", str(folder / "corpus")]
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
    names = ("parser", "inputs", "of them refused", "crashes", "found and mended before",
             "chosen", "seconds")  # fmt: skip
    head = f"| {' | '.join(names)} |\n{'|---' * len(names)}|"
    return f"{total:,} inputs, {crashes} crashes.\n\n{head}\n" + "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Try every parser; exit code 1 if one crashed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="over all parsers")
    parser.add_argument("--only", default="", metavar="WORD", help="parsers with this word")
    parser.add_argument("--at-random", action="store_true", help="without atheris")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        _child(given.child, given.inputs, given.folder)
        return 0
    from benchmarks.targets import targets

    guided = importlib.util.find_spec("atheris") is not None and not given.at_random
    chosen: list[Any] = [one for one in targets() if given.only in one.name]
    found = []
    for target, count in zip(chosen, shares(chosen, given.inputs), strict=True):
        found.append(by_coverage(target, count) if guided else at_random(target, count, given.seed))
        one = found[-1]
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
