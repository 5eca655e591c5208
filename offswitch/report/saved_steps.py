"""How many steps of examples does reading save? Curves of halting compared, seed by seed.

A curve is the share of held-out prompts that halt after so many steps, less the share of
look-alikes that do: after a few steps an arm may halt on everything, which is no switch. Where it
crosses a level is read off straight lines between the steps that were measured. Known limits: steps
of one training are points on the way of its learning-rate schedule, not trainings of that length; a
curve that does not get to the level within the steps tried has no crossing, and its seed is left
out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from offswitch.metrics import Metric, exact
from offswitch.plots.documents import HELD_OUT, NEAR, Read, Taught
from offswitch.stats import across

LEVELS: Final = (0.5, 0.9)


@dataclass(frozen=True)
class Saving:
    """What a reading budget saves of the examples, against nothing read, over training seeds.

    `saved`: by level, the steps saved, over the seeds in which both curves get there; `reached`: in
    how many seeds each does, nothing read first; `area`: how much higher the curve is, mean
    over all steps. With one seed there is no interval.
    """

    read: Read
    seeds: tuple[int, ...]
    saved: Mapping[float, Metric]
    reached: Mapping[float, tuple[int, int]]
    area: Metric
    steps: int


def savings(taught: Sequence[Taught]) -> list[Saving]:
    """One for each reading budget that has a seed in common with nothing read, same modules."""
    plain = {(one.read.modules, one.read.seed): one for one in taught if _read_nothing(one)}
    groups: dict[tuple[str, str, int, int], list[Taught]] = {}
    for one in taught:
        if not _read_nothing(one) and (one.read.modules, one.read.seed) in plain:
            groups.setdefault(one.read.budget, []).append(one)
    return [_saving(own, [plain[o.read.modules, o.read.seed] for o in own])
            for own in groups.values()]  # fmt: skip


def crossing(curve: Mapping[int, float], level: float) -> float | None:
    """After how many steps a curve first gets to a level; None where it does not."""
    steps = sorted(curve)
    if not steps or curve[steps[0]] >= level:
        return float(steps[0]) if steps else None
    for before, after in pairwise(steps):
        if curve[before] < level <= curve[after]:
            share = (level - curve[before]) / (curve[after] - curve[before])
            return before + share * (after - before)
    return None


def area(curve: Mapping[int, float]) -> float:
    """The mean of a curve over its steps, on straight lines between those measured."""
    steps = sorted(curve)
    whole = sum((b - a) * (curve[a] + curve[b]) / 2 for a, b in pairwise(steps))
    return whole / (steps[-1] - steps[0])


def _read_nothing(taught: Taught) -> bool:
    return taught.read.about == "nothing"


def _saving(own: Sequence[Taught], plain: Sequence[Taught]) -> Saving:
    pairs = [(_curve(ours), _curve(theirs)) for ours, theirs in zip(own, plain, strict=True)]
    saved, reached = {}, {}
    for level in LEVELS:
        both = [(crossing(theirs, level), crossing(ours, level)) for ours, theirs in pairs]
        reached[level] = tuple(sum(pair[i] is not None for pair in both) for i in (0, 1))
        known = [a - b for a, b in both if a is not None and b is not None]
        if known:
            saved[level] = _over_seeds(known, "steps")
    gained = _over_seeds([area(ours) - area(theirs) for ours, theirs in pairs], "share")
    steps = max(max(curve) for pair in pairs for curve in pair)
    seeds = tuple(one.read.seed for one in own)
    return Saving(own[0].read, seeds, saved, {k: (v[0], v[1]) for k, v in reached.items()}, gained,
                  steps)  # fmt: skip


def _over_seeds(values: Sequence[float], unit: str) -> Metric:
    return Metric.of(across(values, unit)) if len(values) > 1 else exact(values[0], unit)


def _curve(taught: Taught) -> dict[int, float]:
    return {
        step: numbers[HELD_OUT].value - numbers[NEAR].value
        for step, numbers in taught.by_step.items() if HELD_OUT in numbers and NEAR in numbers
    }  # fmt: skip
