"""The bench: an arm, the prompts in its own tokens, and its directions.

The files of measure/ take a Bench; they run inside `arm_of`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from offswitch.analyses.analysis import Array
from offswitch.analyses.directions import unit
from offswitch.model.subject import Subject
from offswitch.options import ProbeOptions
from offswitch.probe.inputs import Inputs, Part
from offswitch.prompts.encode import encode_chat

Arrays = dict[str, Array]


@dataclass(frozen=True)
class Bench:
    """An arm, its prompts as ids, and directions [L, D] by name.

    A direction's length is how far the trigger's prompts lie from their twins along it, on average
    over fit questions: adding it once moves a prompt as far as the trigger does. One that is no
    number at a block was not made there.
    """

    subject: Subject
    arm: str
    inputs: Inputs
    options: ProbeOptions
    seed: int
    directions: Mapping[str, Array] = field(default_factory=dict)

    def rows(self, part: Part, key: str, count: int | None = None) -> list[list[int]]:
        """A group's prompts as ids, at most `count` of them."""
        return [self.ids(rank) for rank in self.inputs.rows(part, key)[:count]]

    def ids(self, rank: int) -> list[int]:
        """A prompt as ids, with what its reply begins with."""
        one = self.inputs.asked[rank]
        return [*encode_chat(self.subject.tokenizer_of(self.arm), one.chat), *one.begun]

    def tensor(self, array: Array) -> Tensor:
        """An array on the model's device, float32."""
        return torch.tensor(np.asarray(array), dtype=torch.float32, device=self.subject.device)

    def native(self, array: Array) -> Tensor:
        """An array on the model's device, in the model's own precision."""
        weight = next(self.subject.network.parameters())
        return torch.tensor(array, dtype=weight.dtype, device=self.subject.device)

    def vector(self, name: str, block: int) -> Tensor:
        """A direction at a block, at its own length [D]."""
        return self.tensor(self.directions[name][block])

    def along(self, name: str, block: int) -> Tensor:
        """The same, of length one."""
        return self.tensor(unit(self.directions[name][block])[0])

    def made(self, name: str) -> list[int]:
        """The blocks at which a direction was made."""
        return [b for b, row in enumerate(self.directions[name]) if np.isfinite(row).all()]
