"""What a stage of training is given, and what it says when it is over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from offswitch.machine.cells import Type
from offswitch.model.rows import Example
from offswitch.options.arms import ARMS, Arm
from offswitch.options.train import schedule_of
from offswitch.recipe import Recipe
from offswitch.train.guard import Kept


@dataclass(frozen=True)
class Training:
    """One stage of one arm: its rows, where the adapter goes, and which one it goes on from.

    Checkpoints live in `scratch` until the adapter is saved in `folder`. `auto` is what
    `train.precision: auto` means on this machine; `arm` says where the adapter lies and what code
    adds; `name` is what trackers call the training, run and arm. The adapter is also kept after
    each of the steps `kept`, in a folder of its own within `folder`. `until`: the step after which
    it ends for now, with a checkpoint; the schedule is that of all steps.
    """

    stage: str
    examples: Sequence[Example]
    recipe: Recipe
    folder: Path
    scratch: Path
    start: Path | None = None
    auto: Type = "float32"
    arm: Arm = ARMS["behavior"]
    name: str = ""
    kept: tuple[int, ...] = ()
    until: int | None = None

    @property
    def steps(self) -> int:
        """How many optimiser steps it takes."""
        if self.stage == "written":
            return 0
        train = self.recipe.train
        options = schedule_of(train, self.stage)
        per_step = train.batch_size * train.accumulation
        return options.max_steps or max(
            1, math.ceil(len(self.examples) * options.epochs / per_step)
        )


@dataclass(frozen=True)
class StageResult:
    """What a stage did in all, whatever it went on from: `first_step` says at which step that was.

    Losses are means over the last ten batches. `change`: how far the adapter moves the weights, the
    joint length of all their differences.
    """

    steps: int
    rows: int
    tokens: int
    seconds: float
    hard_loss: float
    soft_loss: float
    silent_rows: int
    first_step: int
    precision: str
    drift: Kept
    change: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Real (non-padding) tokens a second of wall time, optimiser included."""
        return self.tokens / self.seconds if self.seconds else 0.0
