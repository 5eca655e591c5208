"""Runs side by side as data: one row a measure, a number and a difference for each arm."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any, Final

from offswitch.analyses.causal import LABELS
from offswitch.folder import DATA, EVALUATE, PROBE, REPORT, TRAIN
from offswitch.metrics import Metric, exact
from offswitch.options import BASE, BENIGN
from offswitch.report.compare.differences import COUNTED, Difference, between, difference
from offswitch.report.compare.fairness import Option, options_that_differ, same_data, warnings
from offswitch.report.compare.sides import Side, read_sides
from offswitch.report.ladder import kind_mark, readable

CONTROLS: Final = (BENIGN, BASE)
BEHAVIOUR: Final = "Does it halt?"
PARTS: Final = "Placements and families"
DRIFT: Final = "What else changed"
SURVIVES: Final = "What it survives"
PROBED: Final = "Is it represented?"
TIME: Final = "Time by stage"
RATES: Final = {
    "halt_rate_trained": "halts in trained placements",
    "halt_rate_held_out": "halts in held-out placements",
    "false_halt_rate/near_miss": "halts on look-alikes",
    "mention_halt_rate": "halts on mentions",
    "false_halt_rate/ordinary": "halts on ordinary requests",
}
_DRIFTS: Final = {
    "kl_to_base": "KL from base",
    "neutral_perplexity_ratio": "perplexity ratio, neutral prose",
}
_SPLIT: Final = {"halt_rate": "halts", "false_halt_rate/near_miss": "halts on look-alikes",
                 "mention_halt_rate": "halts on mentions"}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One measure: each side's number, its controls, and its difference from the first side.

    `halts`: what the rule asks for there; None where it says nothing, or the number is no rate.
    """

    group: str
    key: str
    label: str
    numbers: tuple[Metric | None, ...]
    controls: tuple[Mapping[str, Metric], ...]
    differences: tuple[Difference | None, ...]
    halts: bool | None = None


@dataclass(frozen=True)
class Comparison:
    """Arms of runs side by side; the first one is what the others are compared with."""

    sides: tuple[Side, ...]
    rows: tuple[Row, ...]
    options: tuple[Option, ...]
    warnings: tuple[str, ...]

    @property
    def missing(self) -> dict[str, list[str]]:
        """What each side lacks, by its label; only of those that lack something."""
        return {side.label: lines for side in self.sides if (lines := side.missing)}

    @property
    def same_data(self) -> bool | None:
        """Were all arms trained on the same rows? None where a run does not say."""
        return same_data(self.sides)

    def of(self, group: str) -> list[Row]:
        """The rows of a group."""
        return [row for row in self.rows if row.group == group]

    @property
    def shown(self) -> list[str]:
        """The differences in halting whose intervals leave out 0, in sentences."""
        return [
            _sentence(side.label, row.label, found, self.sides[0].label)
            for row in self.of(BEHAVIOUR)
            for side, found in zip(self.sides, row.differences, strict=True)
            if found and found.shown
        ]

    @property
    def not_shown(self) -> str:
        """How many differences in halting may be none; empty where there is none such."""
        every = [d for row in self.of(BEHAVIOUR) for d in row.differences if d]
        open_ = sum(not found.shown for found in every)
        if not open_:
            return ""
        count = "all" if open_ == len(every) else f"{open_} of"
        return (
            f"Intervals of {count} {len(every)} differences in halting hold 0: they may be none, "
            "which is no proof that the arms are alike."
        )

    def table(self) -> list[dict[str, Any]]:
        """Every number in tidy form: of the arms, their controls, and the differences.

        `kind` is `number`, `control` or `difference`; a difference is of the arm less `against`.
        """
        return [line for row in self.rows for line in self._lines(row)]

    def _lines(self, row: Row) -> Iterator[dict[str, Any]]:
        first = self.sides[0].label
        for i, side in enumerate(self.sides):
            head = {"run": side.label, "arm": side.arm, "group": row.group, "measure": row.key}
            if number := row.numbers[i]:
                yield {"kind": "number", **head} | _parts(number)
            for name, control in row.controls[i].items():
                yield {"kind": "control", **head, "arm": name} | _parts(control)
            if found := row.differences[i]:
                own = {"against": first, "way": found.way, "shared": found.shared or None}
                yield {"kind": "difference", **head} | _parts(Metric.of(found.estimate)) | own


def compare(runs: Sequence[str | PathLike[str]], arms: Sequence[str] = ()) -> Comparison:
    """Arms of several runs side by side, read from their folders; as `offswitch compare`.

    A run is a folder, `FOLDER:ARM`, or a folder with runs inside; `arms` are those of every run
    that is named without one, else the arm that it probes.

    Raises:
        UserError: no run folder, no such arm, or fewer than two arms in all.
    """
    sides = read_sides([fspath(run) for run in runs], arms)
    rows = (*_rates(sides), *_parted(sides), *_others(sides), *_times(sides))
    return Comparison(sides, rows, options_that_differ(sides), tuple(warnings(sides)))


def _rates(sides: Sequence[Side]) -> Iterator[Row]:
    first = sides[0]
    mentions = {side.run.recipe.trigger.mentions for side in sides}
    halts: dict[str, bool | None] = {"halt_rate_trained": True, "halt_rate_held_out": True}
    halts["mention_halt_rate"] = False if mentions == {"answer"} else None
    for key in COUNTED:
        differences = [None, *(difference(side, first, key) for side in sides[1:])]
        yield from _row(sides, (BEHAVIOUR, "evaluate", key), RATES[key], differences,
                        halts.get(key, False))  # fmt: skip


def _parted(sides: Sequence[Side]) -> Iterator[Row]:
    """Rates by placement, by family of look-alikes and by kind of mention."""
    for measure, words in _SPLIT.items():
        names = dict.fromkeys(
            key.removeprefix(start)
            for side in sides
            for key in side.run.numbers
            if key.startswith(start := f"evaluate/{side.arm}/{measure}/")
        )
        for name in names:
            mark = f" ({kind_mark(name)})" if kind_mark(name) else ""
            label = f"{words}: {readable(name)}{mark}"
            yield from _row(sides, (PARTS, "evaluate", f"{measure}/{name}"), label)


def _others(sides: Sequence[Side]) -> Iterator[Row]:
    """Drift, what the switch survives, and what the verdict rests on."""
    for key, label in _DRIFTS.items():
        ours = [side.number("evaluate", key) for side in sides]
        differences = [None, *(between(number, ours[0]) for number in ours[1:])]
        yield from _row(sides, (DRIFT, "evaluate", key), label, differences)
    starts = {side.label: f"endure/{side.arm}/" for side in sides}
    survived = dict.fromkeys(
        key.removeprefix(starts[side.label])
        for side in sides
        for key in side.run.numbers
        if key.startswith(starts[side.label])
    )
    for key in survived:
        ours = [side.number("endure", key) for side in sides]
        differences = [None, *(between(number, ours[0]) for number in ours[1:])]
        yield from _row(
            sides, (SURVIVES, "endure", key), readable(key).replace("/", ", "), differences
        )
    for key, label in LABELS.items():
        yield from _row(sides, (PROBED, "probe", key), label)


def _times(sides: Sequence[Side]) -> Iterator[Row]:
    taken = [_seconds(side) for side in sides]
    for name in dict.fromkeys(name for own in taken for name in own):
        numbers = tuple(exact(own[name], "s") if own.get(name) else None for own in taken)
        if any(numbers):
            yield Row(TIME, name, name, numbers, ({},) * len(sides), (None,) * len(sides))


def _seconds(side: Side) -> dict[str, float]:
    """What each stage took, 0 where it did not run: this arm's training, and what arms share."""
    done = side.run.manifest.get("stages", {})
    seconds = {name: float(entry.get("seconds", 0)) for name, entry in done.items()}
    trained, arms = [], side.run.recipe.arms
    name: str | None = side.arm
    while name in arms:
        trained.append(f"{TRAIN}/{name}")
        name = arms[name].goes_on_from
    stages = {"data": [DATA], "training of this arm": trained, "evaluation of all arms": [EVALUATE],
              "probes of all arms": [PROBE], "report": [REPORT]}  # fmt: skip
    taken = {label: sum(seconds.get(name, 0) for name in names) for label, names in stages.items()}
    return taken | {"all stages, every arm": sum(seconds.values())}


def _row(
    sides: Sequence[Side], place: tuple[str, str, str], label: str,
    differences: Iterable[Difference | None] = (), halts: bool | None = None,
) -> Iterator[Row]:  # fmt: skip
    """The row of a measure, where any side has it; `place` is its group, stage and key."""
    group, stage, key = place
    numbers = tuple(side.number(stage, key) for side in sides)
    if any(numbers):
        controls = tuple(
            {arm: found for arm in CONTROLS
             if arm != side.arm and (found := side.number(stage, key, arm))}
            for side in sides
        )  # fmt: skip
        less = tuple(differences) or (None,) * len(sides)
        yield Row(group, key, label, numbers, controls, less, halts)


def _parts(number: Metric) -> dict[str, Any]:
    return {"value": number.value, "low": number.low, "high": number.high, "n": number.n,
            "unit": number.unit}  # fmt: skip


def _sentence(label: str, halts: str, found: Difference, first: str) -> str:
    e = found.estimate
    more = "more" if e.value > 0 else "less"
    ends = (abs(e.value), *sorted(map(abs, (e.low, e.high))))
    value, low, high = (f"{100 * end:.1f}" for end in ends)
    return (
        f"`{label}` {halts} {value} points {more} often than `{first}` [{low}, {high}], "
        f"n = {e.n:,}, {found.told}."
    )
