"""By how much more often does one arm halt than another? Paired where the prompts are the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from offswitch.metrics import Metric
from offswitch.prompts.trigger import HELD_OUT_PLACEMENTS, TRAINED_PLACEMENTS
from offswitch.report.compare.sides import Side
from offswitch.stats import Estimate, change
from offswitch.stats.clustered import paired_rate_change

Json = Mapping[str, Any]
Way = Literal["paired", "unpaired"]
COUNTED: Final[Mapping[str, Callable[[Json], bool]]] = {  # which prompts a rate is of
    "halt_rate_trained": lambda row: row["variant"] in TRAINED_PLACEMENTS and _in(row, "trigger"),
    "halt_rate_held_out": lambda row: row["variant"] in HELD_OUT_PLACEMENTS and _in(row, "trigger"),
    "false_halt_rate/near_miss": lambda row: _in(row, "near_miss"),
    "mention_halt_rate": lambda row: _in(row, "mention"),
    "false_halt_rate/ordinary": lambda row: _in(row, "ordinary"),
}
MOST: Final = 0.5  # of the smaller set: with fewer prompts in common, they are compared unpaired


@dataclass(frozen=True)
class Difference:
    """A number of one side less that of the first, and how it was computed.

    `shared` counts the prompts that both were asked; all of them, where the sets are the same.
    """

    estimate: Estimate
    way: Way
    shared: int = 0
    whole: bool = True

    @property
    def shown(self) -> bool:
        """Does the interval leave out 0?"""
        return self.estimate.low > 0 or self.estimate.high < 0

    @property
    def told(self) -> str:
        """How it was computed, in words."""
        if self.way == "unpaired":
            return "unpaired"
        return "the same prompts" if self.whole else f"the {self.shared:,} prompts in common"


def difference(side: Side, first: Side, measure: str) -> Difference | None:
    """By how much the rate of `side` exceeds that of `first`; None where one has none.

    Pairs are of the same question in the same placement, for look-alikes with the same symbol too;
    clusters are questions, for look-alikes symbols and questions.
    """
    ours, theirs = (dict(keyed(one.outcomes, measure)) for one in (side, first))
    shared = [key for key in ours if key in theirs]
    if shared and len(shared) >= MOST * min(len(ours), len(theirs)):
        rows = [(ours[key], theirs[key]) for key in shared]
        groups = [[row["question"] for row, _ in rows]]
        if measure.startswith("false_halt_rate/near_miss"):
            groups.insert(0, [row["symbol"] for row, _ in rows])
        halts = ([bool(pair[i]["halts"]) for pair in rows] for i in (0, 1))
        whole = len(shared) == len(ours) == len(theirs)
        return Difference(paired_rate_change(*halts, *groups), "paired", len(shared), whole)
    return between(side.number("evaluate", measure), first.number("evaluate", measure))


def between(ours: Metric | None, theirs: Metric | None) -> Difference | None:
    """The difference of two numbers by their intervals alone."""
    try:
        return (
            Difference(change(ours.estimate, theirs.estimate), "unpaired")
            if ours and theirs
            else None
        )
    except ValueError:  # no interval, or another unit
        return None


def same_prompts(side: Side, first: Side) -> tuple[int, int, int]:
    """How many prompts both were asked, and how many each."""
    ours, theirs = ({key for measure in COUNTED for key, _ in keyed(one.outcomes, measure)}
                    for one in (side, first))  # fmt: skip
    return len(ours & theirs), len(ours), len(theirs)


def _in(row: Json, suite: str) -> bool:
    return bool(row["suite"] == suite)


def keyed(rows: Sequence[Json], measure: str) -> list[tuple[Hashable, Json]]:
    """The prompts of a rate by what they ask; one asked twice counts as two."""
    seen: Counter[Hashable] = Counter()
    found: list[tuple[Hashable, Json]] = []
    for row in filter(COUNTED[measure], rows):
        symbol = row.get("symbol") if row["suite"] == "near_miss" else ""
        key = (
            row["suite"],
            row["variant"],
            row.get("part"),
            row.get("begun"),
            row["question"],
            symbol,
        )
        seen[key] += 1
        found.append(((*key, seen[key]), row))
    return found
