"""Directions that mean nothing, of three kinds; the strictest kind decides.

`isotropic`: any direction of the space; `covariance`: drawn as inert prompts differ from one
another, which favours directions that the model uses; `difference`: real mean differences between
inert prompts (other symbols, other placements, random halves). None knows of the trigger. Shapes: F
fit question, L block, D d_model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np

from offswitch.analyses.analysis import Array

Kind = Literal["isotropic", "covariance", "difference"]
CHOOSING: Final = "choosing "
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


@dataclass(frozen=True)
class Inert:
    """Residuals [F, L, D] of inert prompts by symbol, and their placements, questions in order."""

    resid: Mapping[str, Array]
    placements: Sequence[str]
    seed: int

    def draw(self, kind: Kind, index: int) -> Array:
        """A direction of length one at every block [L, D]; the same for the same index."""
        rng = np.random.default_rng((self.seed, KINDS.index(kind), index))
        first = next(iter(self.resid.values()))
        if kind == "isotropic":
            found = rng.normal(size=first.shape[1:])
        elif kind == "covariance":
            every = np.concatenate(list(self.resid.values())).astype(np.float64)
            centred = every - every.mean(0)
            found = np.einsum("n,nld->ld", rng.normal(size=len(centred)), centred)
        else:
            found = self._difference(rng)
        size = np.linalg.norm(found, axis=-1, keepdims=True)
        found = np.where(size > 0, found, rng.normal(size=found.shape))  # where prompts are alike
        drawn: Array = found / np.linalg.norm(found, axis=-1, keepdims=True)
        return drawn

    def _difference(self, rng: np.random.Generator) -> Array:
        """The mean of some inert prompts less that of others, told apart by chance or placement."""
        keys = sorted(self.resid)
        one, other = (
            self.resid[keys[i]].astype(np.float64) for i in rng.integers(len(keys), size=2)
        )
        where = np.asarray(self.placements)
        chosen = rng.permutation(np.unique(where))
        if len(chosen) > 1 and rng.random() < 1 / 2:
            first = np.isin(where, chosen[: rng.integers(1, len(chosen))])
        else:
            first = rng.permutation(len(where)) < len(where) / 2
        found: Array = one[first].mean(0) - other[~first].mean(0)
        return found


def name_of(kind: Kind, index: int, chooses: bool = False) -> str:
    """How a null direction is called in the rows; does it choose blocks and scale for itself?"""
    return f"{kind} {CHOOSING if chooses else ''}{index:03d}"


def kind_of(direction: str) -> Kind:
    """The kind of a null direction.

    Raises:
        ValueError: it is none.
    """
    for kind in KINDS:
        if direction.startswith(f"{kind} "):
            return kind
    raise ValueError(f"'{direction}' is no null direction")


def is_null(direction: str) -> bool:
    """Is it the name of a null direction?"""
    return direction.partition(" ")[0] in KINDS and direction[-3:].isdigit()
