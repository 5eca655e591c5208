"""Damage to what comes after a run: outcomes of attacks, their weights, exported folders."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.damage import (
    DAMAGES,
    KEPT,
    RUN,
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
from benchmarks.reliability import at, ended, type_in, what_follows
from offswitch.files import content_hash

EXPORTED: Final = "exported"
ENDURE, EXPORT = "endure", "export"

# kind of file, where one of it lies in the home, which command makes it
AFTER: Final = (
    ("outcome of an attack", f"{RUN}/6-endure/pruning/behavior/**/outcome.json", ENDURE),
    ("adapter that an attack trained", f"{RUN}/6-endure/removal/behavior/**/*.safetensors", ENDURE),
    ("summary of attacks", f"{RUN}/6-endure/summary/attacks.json", ENDURE),
    ("exported adapter", f"{EXPORTED}/adapter/adapter_model.safetensors", EXPORT),
    ("exported merged weights", f"{EXPORTED}/merged/model.safetensors", EXPORT),
    ("exported directions", f"{EXPORTED}/directions.safetensors", EXPORT),
    ("exported rates", f"{EXPORTED}/parity.json", EXPORT),
    ("exported card", f"{EXPORTED}/README.md", EXPORT),
)


def made_by(command: str, home: Path) -> None:
    """Let a home's run be attacked or exported, as its command does it."""
    (words,) = (one for one in what_follows(home) if one[0] == command)
    with at(home / "cache"):
        type_in(words)


def of_what_follows(sources: Sources, work: Path, asked: Asked) -> Iterator[Found]:
    """Every kind of file that endure and export leave."""
    tries = [(*one, damage) for one in AFTER for damage in DAMAGES if asked(one[0], damage)]
    for home in (sources.whole, sources.another, sources.earlier) if tries else ():
        for command in (ENDURE, EXPORT):
            if home.exists() and (done := ended(partial(made_by, command, home))).code:
                raise RuntimeError(done.said)
    for kind, pattern, command, damage in tries:
        home = copied(sources.whole, work)
        path = min(home.glob(pattern))
        name = str(path.relative_to(home))
        if not damaged(path, damage, name, sources):
            continue
        done, read = seen(path, damage, partial(made_by, command, home))
        as_before = partial(same, content_hash, path, content_hash(sources.whole / name))
        outcome = judged(done, path, as_before) if read else UNREAD
        if f"{path.name} was changed: kept as it is" in done.said:  # a person may write on a card
            outcome = KEPT
        yield Found(kind, damage, outcome, "", done.said)
