"""Candidate directions, block by block, from residuals of trigger prompts and their twins.

A mean difference alone can miss what matters, where other differences between trigger and twin are
larger: so there is more than one candidate. `mean`: the mean difference. `whitened`: the mean
difference in units of the residual's spread, the best linear reader where spreads are equal (Fisher's
discriminant; shrunk covariance after Chen et al. 2010). Each is given the length of the mean
difference's share along it. Shapes: N prompt, L block, D d_model.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from offswitch.analyses.analysis import Array
from offswitch.analyses.directions import unit

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
    """Inverse within-group covariance times the mean difference, at the length it shares with it."""
    groups = [rows.astype(np.float64) for rows in (ours_ND, theirs_ND)]
    centred = np.concatenate([rows - rows.mean(0) for rows in groups])
    count, width = len(centred) - len(groups), centred.shape[1]
    _, sizes, right = np.linalg.svd(centred / np.sqrt(max(count, 1)), full_matrices=False)
    spread = sizes**2
    total, squares = float(spread.sum()), float((spread**2).sum())
    if not total:
        return mean_D
    over = (1 - 2 / width) * squares + total**2
    under = (count + 1 - 2 / width) * (squares - total**2 / width)
    shrunk = min(1.0, over / under) if under > 0 else 1.0
    floor = shrunk * total / width
    # (floor I + (1 - shrunk) V S V')^-1 without a matrix of D x D
    inside = right @ mean_D
    weights = 1 / (floor + (1 - shrunk) * spread) - 1 / floor
    return shared(mean_D / floor + right.T @ (weights * inside), mean_D)
