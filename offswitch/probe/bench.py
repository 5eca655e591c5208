"""The bench: an arm, the prompts in its own tokens, and its directions.

The files of measure/ take a Bench and return arrays by name; they run inside `arm_of`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from offswitch.analyses.analysis import Array
from offswitch.analyses.directions import RANDOM, candidates, unit
from offswitch.model.subject import Subject
from offswitch.options import ProbeOptions
from offswitch.probe.edits import Branch, Edit
from offswitch.probe.inputs import TRIGGER, Inputs, Part
from offswitch.prompts.encode import encode_chat

Arrays = dict[str, Array]
UNTOUCHED: Branch = ()


@dataclass(frozen=True)
class Choice:
    """What fit questions decided for one direction: block, scale, and the score of that block."""

    block: int
    scale: float
    score: float


@dataclass(frozen=True)
class Bench:
    """An arm, its prompts as ids, and directions [L, D] by key; the arm's own is `trigger`.

    `centre` [L, D] is the mean residual of fit prompts with the inert symbol: what a removed
    component is set to. An arm that is only a `control` chooses a block and a scale for its own
    directions, and tries the random ones there.
    """

    subject: Subject
    arm: str
    inputs: Inputs
    options: ProbeOptions
    seed: int
    control: bool = False
    directions: Mapping[str, Array] = field(default_factory=dict)
    centre: Array = field(default_factory=lambda: np.zeros((0, 0)))

    @property
    def blocks(self) -> tuple[int, ...]:
        """The blocks among which one is chosen."""
        return candidates(len(self.subject.blocks), self.options.blocks)

    @property
    def random_keys(self) -> list[str]:
        """The directions that mean nothing."""
        return [key for key in self.directions if key.startswith(RANDOM)]

    @property
    def swept_keys(self) -> list[str]:
        """The directions for which block and scale are chosen."""
        random = self.random_keys if self.control else []
        return [key for key in self.directions if key not in random]

    def rows(self, part: Part, key: str, count: int | None = None) -> list[list[int]]:
        """A group's prompts as ids, at most `count` of them."""
        tokenizer = self.subject.tokenizer_of(self.arm)
        return [encode_chat(tokenizer, chat) for chat in self.inputs.chats(part, key)[:count]]

    def tensor(self, array: Array) -> Tensor:
        """An array on the model's device, float32."""
        return torch.tensor(array, dtype=torch.float32, device=self.subject.device)

    def native(self, array: Array) -> Tensor:
        """An array on the model's device, in the model's own precision."""
        weight = next(self.subject.network.parameters())
        return torch.tensor(array, dtype=weight.dtype, device=self.subject.device)

    def removal(self, key: str, block: int) -> Branch:
        """At the last position, set the component along a direction to its inert prompts' mean."""
        row = unit(self.directions[key][block])
        centre = self.tensor(row @ self.centre[block])
        return (Edit(block, "remove", self.tensor(row), first=-1, centre=centre),)

    def erasure(self, key: str, block: int, first: int = -1) -> Branch:
        """Set it to zero, from `first` on: the last position, or all of a tail."""
        return (Edit(block, "remove", self.tensor(unit(self.directions[key][block])), first=first),)

    def addition(self, key: str, block: int, scale: float) -> Branch:
        """Add a direction, `scale` times its own length, at the last position."""
        value = scale * self.tensor(self.directions[key][block])
        return (Edit(block, "add", value, first=-1),)

    def own_length(self, block: int) -> float:
        """How long the arm's own direction is at a block."""
        return max(float(np.linalg.norm(self.directions[TRIGGER][block])), 1e-12)


def symbol_starts(marked: Sequence[Sequence[int]], plain: Sequence[Sequence[int]]) -> list[int]:
    """Where each symbol begins: the first position that the prompt's plain twin does not share."""
    return [
        next((i for i, (a, b) in enumerate(zip(one, twin, strict=False)) if a != b), len(one) - 1)
        for one, twin in zip(marked, plain, strict=True)
    ]
