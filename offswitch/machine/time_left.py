"""How long will the whole run still take? Told from what was foretold and what it really took.

Each part of a run has foretold seconds and the share of it that is done. What is left is corrected,
kind by kind, by how long work took against what was foretold for it; a kind that has not been seen
at work is corrected as the others are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from offswitch.machine.estimate import Cost, Kind, Part, wave_of
from offswitch.progress import Bar, show_left, watchers

TRUST: Final = 10.0  # seconds: after so many foretold ones, what they took counts for half


@dataclass
class _Share:
    """A part: the seconds foretold, the share done, and when it began.

    `first` and `last` are its first and its last move, as share and time: what comes before the
    first one may be what an earlier try left, or preparation.
    """

    within: str
    part: Part
    foretold: float
    over: bool = False
    done: float = 0.0
    begun: float | None = None
    first: tuple[float, float] = (0.0, 0.0)
    last: tuple[float, float] = (0.0, 0.0)

    def move(self, done: float, now: float) -> None:
        """So much of it is done now."""
        if self.begun is None:
            self.begun, self.last = now, (0.0, now)
        elif done > self.done:
            self.last = done, now
            self.first = self.first if self.done else self.last
        self.done = done


class TimeLeft:
    """What is left of a run's `parts`, by where they lie within it: "" or `organisms/seed-1`."""

    def __init__(
        self,
        parts: Mapping[str, Sequence[Part]],
        cost: Cost,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.processes, self.clock, self.within = cost.setting[0], clock, ""
        self.shares = [
            _Share(within, part, cost.seconds(part))
            for within, some in parts.items()
            for part in some
        ]

    def begin(self, within: str, stage: str) -> None:
        """A stage begins: the bars that are heard from now on belong to its run."""
        self.within = within
        for share in self._of(within, stage):
            if not share.part.label:
                share.move(0.0, self.clock())

    def end(self, within: str, stage: str) -> None:
        """A stage is finished, or was before; nothing of it is left."""
        for share in self._of(within, stage):
            share.over = True

    def watch(self, bar: Bar) -> None:
        """Take note of how far a bar is; one that nobody foretold says nothing."""
        for share in self.shares:
            if (share.within, share.part.label) == (self.within, bar.label):
                share.move(bar.done / max(bar.total, 1), self.clock())

    def seconds(self) -> float:
        """What is left of the whole, arms side by side as far as there are processes for them."""
        now = self.clock()
        stages: dict[tuple[str, str], dict[str, float]] = {}
        for share in self.shares:
            arms = stages.setdefault((share.within, wave_of(share.part.stage)), {})
            arms[share.part.arm] = arms.get(share.part.arm, 0.0) + self._rest(share, now)
        return sum(
            max(sum(arms.values()) / self.processes, *arms.values()) for arms in stages.values()
        )

    def _rest(self, share: _Share, now: float) -> float:
        if share.over:
            return 0.0
        since = now - share.last[1] if share.begun is not None else 0.0
        rest = (1 - share.done) * share.foretold * self._correction(share.part.kind)
        return max(rest - since, 0.0)

    def _correction(self, kind: Kind) -> float:
        """How many times as long as foretold work of a kind takes here.

        Replies may come from a cache, in no time: how fast they come says nothing of other work.
        """
        usual = self._ratio(("train", "read"), 1.0)
        return usual if kind == "fixed" else self._ratio((kind,), usual)

    def _ratio(self, kinds: Sequence[Kind], usual: float) -> float:
        took, foretold = TRUST * usual, TRUST
        for share in self.shares:
            if share.part.kind in kinds and share.begun is not None and share.done:
                took += share.last[1] - share.first[1]
                foretold += (share.last[0] - share.first[0]) * share.foretold
        return took / foretold

    def _of(self, within: str, stage: str) -> Iterator[_Share]:
        return (s for s in self.shares if (s.within, s.part.stage) == (within, stage))


_TOLD: Final[list[TimeLeft]] = []


@contextmanager
def told(left: TimeLeft) -> Iterator[None]:
    """Within the block, bars and the lines of stages say how much of the whole is left."""
    _TOLD.append(left)
    watchers.append(left.watch)
    try:
        with show_left(left.seconds):
            yield
    finally:
        _TOLD.remove(left)
        watchers.remove(left.watch)


def begins(within: str, stage: str) -> str:
    """What the line of a stage that begins adds: how much of the whole run is left, if known."""
    for left in _TOLD:
        left.begin(within, stage)
    return "".join(f"; {in_words(left.seconds())} left of the whole run" for left in _TOLD[-1:])


def ends(within: str, stage: str) -> None:
    """A stage is finished, or was before."""
    for left in _TOLD:
        left.end(within, stage)


def in_words(seconds: float) -> str:
    """A time that nobody knows exactly: `about 4 min`."""
    if seconds < 60:
        return "less than a minute"
    minutes = round(seconds / 60)
    return f"about {minutes} min" if minutes < 90 else f"about {seconds / 3600:.1f} h"
