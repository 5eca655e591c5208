"""The direction taken out of the weights: nothing can write along it any more.

It is projected out of every matrix that writes to the residual stream: embedding, attention
outputs, MLP outputs (Arditi et al. 2024). A random direction taken out the same way is the control:
what it does, any direction would do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor

from offswitch.analyses.directions import FILE, load_directions
from offswitch.endure.attack import ATTACKED, Attack, Attacked, Point, Target
from offswitch.folder import PROBE
from offswitch.model.whole import attached, whole_weights, writers

DIRECTION: Final = "direction"
RANDOM: Final = "random direction"


def without(weight: Tensor, unit_D: Tensor, last: bool) -> Tensor:
    """A matrix whose output has nothing along a unit vector; its last axis, or its first, is D."""
    if last:
        return weight - (weight @ unit_D)[..., None] * unit_D
    return weight - unit_D[:, None] * (unit_D @ weight)


@contextmanager
def project(target: Target, point: Point) -> Iterator[Attacked]:
    """The arm without its direction, or without a random one."""
    subject = target.subject
    weights = whole_weights(subject, target.arm)
    unit = _unit(target, point.kind == RANDOM).to(next(iter(weights.values())))
    for name, last in writers(subject).items():
        weights[name] = without(weights[name], unit, last)
    with attached(subject, ATTACKED, weights):
        yield Attacked(ATTACKED)


def _unit(target: Target, random: bool) -> Tensor:
    """The direction that did most in the probes, or a random one, of length one [D]."""
    run = target.session.run
    directions, facts = load_directions(run.folder(PROBE) / run.recipe.probe.arm / FILE)
    name, block = facts.most
    vector = torch.from_numpy(directions[name][block]).double()
    if random:
        generator = torch.Generator().manual_seed(target.seed)
        vector = torch.randn(vector.shape, dtype=vector.dtype, generator=generator)
    unit: Tensor = vector / vector.norm()
    return unit


def lacks(target: Target) -> str:
    """Why nothing can be taken out: no direction is known."""
    run = target.session.run
    there = (run.folder(PROBE) / run.recipe.probe.arm / FILE).is_file()
    return "" if there else "the probe stage, which takes the direction, has not run"


PROJECTION: Final = Attack(
    name="projection",
    question="Is the switch left when no weight can write along its direction?",
    unit="",
    points=lambda _: (Point(DIRECTION), Point(RANDOM, drawn=True)),
    apply=project,
    lacks=lacks,
)
