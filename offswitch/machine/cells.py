"""What is measured of a machine, and the figures: tokens and operations a second."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

What = Literal["train", "read", "product"]
Type = Literal["float32", "bfloat16"]
BLOCKS: Final = 2  # of the model, in what is measured


@dataclass(frozen=True, order=True)
class Cell:
    """What is measured: so many processes at once, each with so many threads."""

    what: What
    precision: Type
    processes: int
    threads: int

    @property
    def kind(self) -> tuple[What, Type]:
        """What is measured, in which type."""
        return self.what, self.precision

    @property
    def cores(self) -> int:
        """Threads of all processes together."""
        return self.processes * self.threads

    def __str__(self) -> str:
        return f"{self.what} {self.precision} {self.processes}x{self.threads}"


@dataclass(frozen=True)
class Shape:
    """What rates, times and memory depend on: a model's configuration as JSON, and its `size`.

    The size is the number of weights, as far as the configuration says.
    """

    config: str
    blocks: int
    heads: int
    size: int


@dataclass(frozen=True)
class Rates:
    """Tokens a second through two blocks (`train`: forward and backward; `read`: forward alone).

    For `product`, 10^9 operations a second. Of all processes together; what could not be measured
    is missing.
    """

    figures: Mapping[Cell, float] = field(default_factory=dict)

    def near(self, cell: Cell) -> float:
        """The figure of a cell; of the nearest one in proportion to cores, where it has none.

        Raises:
            KeyError: nothing of its kind and type was measured.
        """
        alike = {c: r for c, r in self.figures.items() if c.kind == cell.kind}
        if not alike:
            raise KeyError(cell.kind)

        def distance(other: Cell) -> tuple[float, bool]:
            return abs(math.log(other.cores / cell.cores)), other.processes != cell.processes

        nearest = min(alike, key=distance)
        return alike[nearest] * cell.cores / nearest.cores

    def to_json(self) -> dict[str, float]:
        """The figures by what they are of: `train float32 2x1`."""
        return {str(cell): float(f"{self.figures[cell]:.4g}") for cell in sorted(self.figures)}

    @classmethod
    def from_json(cls, content: Mapping[str, float]) -> Rates:
        """What `to_json` gave.

        Raises:
            ValueError: it did not give that.
        """
        figures: dict[Cell, float] = {}
        for name, rate in content.items():
            what, precision, setting = name.split(" ")
            processes, threads = map(int, setting.split("x"))
            if what not in get_args(What) or precision not in get_args(Type) or not rate > 0:
                raise ValueError(f"not a rate: {name}: {rate}")
            figures[Cell(what, precision, processes, threads)] = float(rate)  # type: ignore[arg-type]
        return cls(figures)
