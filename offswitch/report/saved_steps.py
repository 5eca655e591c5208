"""How many steps of examples does reading save? Curves of halting compared, seed by seed.

A curve is the share of held-out prompts that halt after so many steps, less the share of
look-alikes that do: after a few steps an arm may halt on everything, which is no switch. Where it
crosses a level is read off straight lines between the steps that were measured; all that is known
is that it lies between the two, so the interval reaches that far. Known limits: steps of one
training are points on the way of its learning-rate schedule, not trainings of that length; a curve
that does not get to the level within the steps tried has no crossing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

from offswitch.plots.documents import HELD_OUT, NEAR, Read, Taught
from offswitch.stats import Estimate, across, crossing

LEVELS: Final = (0.5, 0.9)
About = Literal["rule", "neutral", "nothing"]


@dataclass(frozen=True)
class Saving:
    """What a reading budget saves of the examples, over training seeds, against other reading.

    `beside`: nothing read, or as many neutral documents, with the same modules and seeds. `saved`:
    by level, the steps saved, where both curves get there in every seed; `reached`: in how
    many seeds each does, the other reading first; `area`: how much higher the curve is, mean over
    all steps. With one seed the interval is of the steps measured alone, and `area` has none.
    """

    read: Read
    beside: About
    seeds: tuple[int, ...]
    saved: Mapping[float, Estimate]
    reached: Mapping[float, tuple[int, int]]
    area: Estimate
    steps: int


def savings(taught: Sequence[Taught]) -> list[Saving]:
    """Of each reading budget, against nothing read and against as many neutral documents."""
    found: list[Saving] = []
    for budget in dict.fromkeys(one.read.budget for one in taught if one.read.about != "nothing"):
        own = {one.read.seed: one for one in taught if one.read.budget == budget}
        kinds: tuple[About, ...] = ("nothing", "neutral") if budget[0] == "rule" else ("nothing",)
        for beside in kinds:
            other = {
                one.read.seed: one for one in taught
                if (one.read.about, one.read.modules) == (beside, budget[1])
                and (beside == "nothing" or one.read.budget[2:] == budget[2:])
            }  # fmt: skip
            pairs = [(ours, other[seed]) for seed, ours in own.items() if seed in other]
            found += [_saving(pairs, beside)] if pairs else []
    return found


def area(curve: Mapping[int, float]) -> float:
    """The mean of a curve over its steps, on straight lines between those measured."""
    steps = sorted(curve)
    whole = sum((b - a) * (curve[a] + curve[b]) / 2 for a, b in pairwise(steps))
    return whole / (steps[-1] - steps[0])


def _saving(pairs: Sequence[tuple[Taught, Taught]], beside: About) -> Saving:
    curves = [(_curve(ours), _curve(other)) for ours, other in pairs]
    saved: dict[float, Estimate] = {}
    reached: dict[float, tuple[int, int]] = {}
    for level in LEVELS:
        theirs, own = (
            [found for pair in curves if (found := _reached(pair[i], level))] for i in (1, 0)
        )
        reached[level] = len(theirs), len(own)
        if len(theirs) == len(own) == len(pairs):
            gaps = [(a[0] - b[2], a[1] - b[1], a[2] - b[0])
                    for a, b in zip(theirs, own, strict=True)]  # fmt: skip
            least, value, most = (_mean(ends, "steps") for ends in zip(*gaps, strict=True))
            saved[level] = Estimate(value.value, least.low, most.high, len(pairs), "steps")
    gained = [area(ours) - area(other) for ours, other in curves]
    steps = max(max(curve) for pair in curves for curve in pair)
    seeds = tuple(ours.read.seed for ours, _ in pairs)
    return Saving(pairs[0][0].read, beside, seeds, saved, reached, _mean(gained, "share"), steps)


def _reached(curve: Mapping[int, float], level: float) -> tuple[float, float, float] | None:
    steps = sorted(curve)
    return crossing(steps, [curve[step] for step in steps], level) if steps else None


def _mean(values: Sequence[float], unit: str) -> Estimate:
    """The mean over training seeds with its interval, which one seed alone does not have."""
    if len(values) > 1:
        return across(values, unit, signed=True)
    return Estimate(values[0], values[0], values[0], 1, unit)


def _curve(taught: Taught) -> dict[int, float]:
    return {
        step: numbers[HELD_OUT].value - numbers[NEAR].value
        for step, numbers in taught.by_step.items() if HELD_OUT in numbers and NEAR in numbers
    }  # fmt: skip
