"""How are peers compared? In turns, round by round: medians, ranges, and ratios within rounds.

Whatever slows the machine for a while then slows every peer of that round, and a ratio taken within
the round is spared most of it. Known limit: few rounds say little of rare disturbances, so the
range is shown beside every median.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

OURS: Final = "ours"


@dataclass(frozen=True)
class Peer:
    """One way to do the work: what `--only` calls it, and what it does."""

    name: str
    says: str


@dataclass(frozen=True)
class Sample:
    """What one run of a peer measured, by measure; or why it measured nothing."""

    numbers: Mapping[str, float]
    failure: str = ""

    def __post_init__(self) -> None:
        if bool(self.numbers) == bool(self.failure):
            raise ValueError(f"expected numbers or a failure, got {self.numbers}, {self.failure!r}")


@dataclass(frozen=True)
class Spread:
    """The median of n repeats with the lowest and the highest of them."""

    median: float
    low: float
    high: float
    n: int

    def __post_init__(self) -> None:
        if self.n < 1 or not self.low <= self.median <= self.high:
            raise ValueError(f"expected n >= 1 and low <= median <= high, got {self}")


Samples = dict[str, list[Sample]]
Run = Callable[[str], Sample]


def interleave(peers: Sequence[str], rounds: int, run: Run) -> Samples:
    """Every peer once a round, each round begun by another one; what failed is not tried again."""
    found: Samples = {name: [] for name in peers}
    for number in range(rounds):
        first = number % max(len(peers), 1)
        for name in [*peers[first:], *peers[:first]]:
            if not (found[name] and found[name][-1].failure):
                found[name].append(run(name))
    return found


def spread(values: Sequence[float]) -> Spread:
    """The median of some repeats, and how far they lie apart."""
    return Spread(float(median(values)), min(values), max(values), len(values))


def measured(samples: Sequence[Sample], key: str) -> Spread | None:
    """One measure over the repeats of a peer that worked; none where there is none."""
    values = [sample.numbers[key] for sample in samples if key in sample.numbers]
    return spread(values) if values else None


def ratio(above: Sequence[Sample], below: Sequence[Sample], key: str) -> Spread | None:
    """A measure of one peer over that of another, taken within each round that both finished."""
    pairs = [
        a.numbers[key] / b.numbers[key]
        for a, b in zip(above, below, strict=False)
        if a.numbers.get(key) is not None and b.numbers.get(key)
    ]
    return spread(pairs) if pairs else None


def relative(value: float, reference: float) -> float:
    """How far a value lies from its reference, as a share of it."""
    return abs(value - reference) / max(abs(reference), 1e-12)


def chosen(peers: Sequence[Peer], only: Sequence[str]) -> list[Peer]:
    """The peers that `only` names, all of them where it names none."""
    return [peer for peer in peers if not only or peer.name in only]


def job(**values: Any) -> dict[str, Any]:
    """What a child is told, in plain JSON."""
    return {key: str(v) if hasattr(v, "__fspath__") else v for key, v in values.items()}
