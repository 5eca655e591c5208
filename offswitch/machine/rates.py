"""How fast is this machine, by number type, threads and processes? Measured once, kept.

A flag says what a processor can do, not how fast: two blocks of the model itself are trained and
read, in child processes, since an instruction that the machine does not allow ends the process.
Known limit: what else runs meanwhile is measured too; delete `machine/` in the cache to measure
again.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, get_args

from offswitch.cache import cache_root
from offswitch.files import digest, read_sealed, write_sealed
from offswitch.folder.provenance import processor, version_of
from offswitch.machine.cells import Cell, Rates, Type
from offswitch.machine.workers import Pool
from offswitch.progress import say

AT_ONCE: Final = 8  # most processes: a recipe has about four arms, and each process a model
ROUNDS: Final = 2  # what disturbs one round spares the other; the faster one counts
SECONDS: Final = 0.3  # a cell and round
HOPELESS: Final = 4
# What says nothing of the shapes in a model's configuration; an added token changes the vocabulary.
_NAMES: Final = {
    "_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "vocab_size",
    "bos_token_id", "eos_token_id", "pad_token_id", "use_cache", "id2label", "label2id",
}  # fmt: skip


def usable_cores() -> int:
    """The processors that this process may use."""
    with suppress(AttributeError):  # macOS has no such call
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def settings(cores: int) -> list[tuple[int, int]]:
    """The pairs of processes and threads worth a try, none of more threads than cores."""
    powers = [2**i for i in range(cores.bit_length()) if 2**i < cores]
    alone = [(1, threads) for threads in (*powers, cores)]
    several = [(n, cores // n) for n in (*powers[1:], cores) if 1 < n <= AT_ONCE]
    return [*alone, *several]


def rates_of(config: str) -> Rates:
    """The figures of this machine for the model of a configuration (JSON), from the cache if there.

    Of several processes that ask at once, one measures and the others wait for it. A model that
    only its own code describes has no figures.
    """
    path = kept_in(config)
    with _one_at_a_time(path):
        with suppress(ValueError, KeyError, TypeError, AttributeError):  # none, or damaged
            return Rates.from_json((read_sealed(path, path.name) or {})["rates"])
        say("measuring this machine, once")
        rates = measure(config, usable_cores())
        with suppress(OSError):  # a cache that cannot be written costs time only
            write_sealed(path, _place(config) | {"rates": rates.to_json()}, path.name)
    return rates


def kept_in(config: str) -> Path:
    """The file of the cache that holds the figures of this machine for a model."""
    return cache_root() / "machine" / f"{digest(_place(config))}.json"


def _place(config: str) -> dict[str, Any]:
    """What the figures depend on."""
    shapes = {key: value for key, value in json.loads(config).items() if key not in _NAMES}
    return {"processor": processor(), "cores": usable_cores(), "torch": version_of("torch"),
            "device": "cpu", "model": shapes}  # fmt: skip


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Within the block no other process measures for the same model; where locks work."""
    with ExitStack() as held:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context(path.with_suffix(".lock").open("w", encoding="utf-8"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def measure(config: str, cores: int) -> Rates:
    """Measure every cell, small ones first, in rounds.

    Where a child ends or refuses, what its type has so far is kept and the rest not tried: what an
    instruction does to one process it does to the next. Nor is a type tried further whose products
    are `HOPELESS` times slower than those of float32: measuring that would take a minute.
    """
    found: dict[Cell, float] = {}
    tried = settings(cores)
    pool = Pool(max(processes for processes, _ in tried), cores)
    try:
        for precision in get_args(Type):
            cells = [Cell("product", precision, 1, cores)]
            cells += [Cell("train", precision, *setting) for setting in tried]
            if precision == "float32":  # evaluation and probes know no other type
                cells += [Cell("read", precision, *setting) for setting in tried]
            for cell in cells * ROUNDS:
                rate = _measured(pool, config, cell)
                if rate is None:
                    break
                found[cell] = max(rate, found.get(cell, 0.0))
                plain = found.get(replace(cell, precision="float32"), 0.0)
                if cell == Cell("product", "bfloat16", 1, cores) and rate * HOPELESS < plain:
                    break
    finally:
        pool.close()
    return Rates(found)


def _measured(pool: Pool, config: str, cell: Cell) -> float | None:
    """The rate of all processes of a cell together, begun at once; None if one of them failed."""
    from offswitch.machine import trial

    rates: list[float] = []
    for task, arguments in ((trial.prepare, (config, cell)), (trial.rate, (SECONDS,))):
        keys = [f"{cell}, process {i}" for i in range(cell.processes)]
        for key in keys:  # each goes to the next child without a task, so to the same ones twice
            pool.submit(key, task, *arguments)
        answers = [pool.next(keys) for _ in keys]
        if any(answer.error for answer in answers):
            return None
        rates = [answer.value for answer in answers]
    return sum(rates)
