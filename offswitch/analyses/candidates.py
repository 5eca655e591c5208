"""Candidate directions, block by block, from residuals of trigger prompts and their twins.

A mean difference alone can miss what matters, where other differences between trigger and twin are
larger: so there is more than one candidate. `mean`: the mean difference. `whitened`: the mean
difference in units of the residual's spread, the best linear reader where spreads are equal
(Fisher's discriminant, as leace.py fits it). Each is as long as the mean difference's share along
it. Shapes: N prompt, L block, D d_model.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from offswitch.analyses.analysis import Array
from offswitch.analyses.directions import unit
from offswitch.analyses.leace import fit_eraser

MEAN: Final = "mean"
WHITENED: Final = "whitened"
TRAINED: Final = "trained"


def candidates(ours_NLD: Array, theirs_NLD: Array) -> dict[str, Array]:
    """The candidates [L, D] that need no gradient, by name; the rows are paired."""
    mean_LD = (ours_NLD.astype(np.float64) - theirs_NLD).mean(0)
    blocks = range(mean_LD.shape[0])
    whitened = [_whitened(ours_NLD[:, b], theirs_NLD[:, b], mean_LD[b]) for b in blocks]
    return {MEAN: mean_LD, WHITENED: np.stack(whitened)}


def shared(direction_D: Array, mean_D: Array) -> Array:
    """A direction at the length of the mean difference's share along it, pointing the same way."""
    row: Array = unit(direction_D)[0]
    scaled: Array = float(row @ mean_D) * row
    return scaled


def _whitened(ours_ND: Array, theirs_ND: Array, mean_D: Array) -> Array:
    """The best linear reader of which prompt it is, at the length that it shares with the mean."""
    kinds = np.repeat([1, 0], [len(ours_ND), len(theirs_ND)])
    reader = fit_eraser(np.concatenate([ours_ND, theirs_ND]), kinds).rows_RD
    return shared(reader[0], mean_D) if len(reader) else mean_D
