"""What to do with a stored direction, and where: settled before a model is loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from offswitch.analyses.analysis import Array
from offswitch.analyses.directions import CENTRE, TRIGGER, DirectionFacts
from offswitch.errors import UserError


@dataclass(frozen=True)
class Steering:
    """What to do with a stored direction, and where; None stands for what its file has chosen.

    Without direction and block it is the pair that did most on fit questions, however deep it lies.

    `add` adds `scale` times the direction; `remove` moves the residual's component along it to what
    it is on average with an inert symbol, as the probe does, or to zero where it is `everywhere`:
    the share `scale` of the way, all of it without one.

    Raises:
        UserError: no such operation; a scale that is not finite, or no share for a removal.
    """

    operation: Literal["add", "remove"]
    direction: str | None = None
    block: int | None = None
    scale: float | None = None
    everywhere: bool = False

    def __post_init__(self) -> None:
        if self.operation not in ("add", "remove"):
            raise UserError(f"a direction can be added or removed, not '{self.operation}'")
        if self.scale is not None and not math.isfinite(self.scale):
            raise UserError(f"the scale must be a finite number, got {self.scale}")
        if self.operation == "remove" and self.scale is not None and not 0 <= self.scale <= 1:
            raise UserError(f"a removal takes a share between 0 and 1, got {self.scale:g}")


def settled(directions: Mapping[str, Array], facts: DirectionFacts, steering: Steering) -> Steering:
    """The steering with its file's own block and scale where it names none.

    Raises:
        UserError: there is no such direction or block; or a direction that cannot be used.
    """
    if steering.direction is None and steering.block is None:
        direction, block = facts.most
        steering = replace(steering, direction=direction, block=block)
    name = TRIGGER if steering.direction is None else steering.direction
    if name not in directions or name == CENTRE:
        there = ", ".join(sorted(directions.keys() - {CENTRE}))
        raise UserError(f"no direction '{name}'; there are: {there}")
    block = facts.block if steering.block is None else steering.block
    if not 0 <= block < facts.blocks:
        raise UserError(f"no block {block}; the model has blocks 0 to {facts.blocks - 1}")
    if len(directions[name]) != facts.blocks:
        raise UserError(
            f"direction '{name}' has {len(directions[name])} blocks, expected {facts.blocks}"
        )
    length = float(np.linalg.norm(directions[name][block]))
    if not (math.isfinite(length) and length > 0):
        raise UserError(
            f"direction '{name}' cannot be used at block {block}: its length is {length}"
        )
    scale = facts.scale if steering.operation == "add" else 1.0
    scale = scale if steering.scale is None else steering.scale
    return replace(steering, direction=name, block=block, scale=scale)


def described(steering: Steering) -> str:
    """A settled steering in words."""
    where = "every position" if steering.everywhere else "the prompt's last position"
    name = f"'{steering.direction}'"
    scale = 1.0 if steering.scale is None else steering.scale
    part = name if scale == 1 else f"{100 * scale:g} % of {name}"
    what = f"{part} removed" if steering.operation == "remove" else f"{scale:g} × {name} added"
    return f"{what} at block {steering.block}, {where}"
