"""How long will a sweep take here? Its organisms foretold one by one, several at a time."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Final

from offswitch.folder import DATA, EVALUATE, PROBE, REPORT
from offswitch.machine.estimate import Cost, parts_of, root_of, stages_of
from offswitch.machine.plan import plan_of
from offswitch.machine.rates import usable_cores
from offswitch.study.executors import Where
from offswitch.study.plan import Plan, Point

LAST: Final = {"evaluate": EVALUATE, "probe": PROBE, "report": REPORT}


def foretold(plan: Plan, points: Sequence[Point], where: Where) -> dict[str, float]:
    """Seconds of each organism in a process of its own; empty where this machine is not known.

    The model's own replies are counted once, for the first organism: the others find them in the
    cache. All are taken to be of the first one's model, on this machine's processors.
    """
    from offswitch.model.load import load_shape

    if not points or where.address is not None:
        return {}
    first = points[0].recipe
    shape = load_shape(first)
    chosen = plan_of(first, lambda: shape)
    at_once = min(len(points), where.workers or max(1, usable_cores() // where.cpus))
    cost = Cost(chosen.rates, shape, chosen.precision, (at_once, where.cpus))
    if not cost.is_known:
        return {}
    wanted = {root_of(name) for name in stages_of(first, LAST[plan.sweep.stage])}
    seconds = {}
    for point in points:
        parts = [part for part in parts_of(point.recipe, shape) if root_of(part.stage) in wanted]
        left = [part for part in parts if part.stage != DATA or point is points[0]]
        seconds[point.name] = sum(map(cost.seconds, left))
    return seconds


def in_all(seconds: Mapping[str, float], where: Where) -> float:
    """When the last of the organisms ends, each begun in order by the first free process."""
    free = [0.0] * max(1, where.workers or usable_cores() // where.cpus)
    for one in seconds.values():
        heapq.heapreplace(free, free[0] + one)
    return max(free)
