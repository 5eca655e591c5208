"""LEACE: what to take out of an array so that no linear reader finds a yes-or-no concept in it.

Belrose et al., "LEACE: Perfect linear concept erasure in closed form" (2023), theorem 4.3. A
concept z with two values has one cross-covariance c = Cov(x, z), so one direction goes: with
b = S^-1 c, the eraser is x - c (b . (x - mean)) / (b . c), the smallest change (in the metric of
the covariance S) after which Cov(x, z) = 0. Where there are no more rows than columns S cannot be
inverted, and is drawn towards the mean variance times the identity as far as Ledoit & Wolf (2004)
say; Cov(x, z) = 0 on the rows of the fit holds whatever stands for S, only "smallest" is lost.
Known failure: that is so on the rows of the fit. Others may still be read, and `count_directions`
says how much more must go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from offswitch.analyses.analysis import Array
from offswitch.stats import Estimate
from offswitch.stats.clustered import auroc_interval

MOST: Final = 32


@dataclass(frozen=True)
class Eraser:
    """Takes out `out_RD` as far as `rows_RD` reads it: x - (x - mean) rows^T out; R is 1 or 0.

    `shrinkage`: the share of the covariance that stands for the identity's, 0 where N > D.
    """

    mean_D: Array
    rows_RD: Array
    out_RD: Array
    shrinkage: float

    def __post_init__(self) -> None:
        if self.rows_RD.shape != self.out_RD.shape or self.mean_D.shape != self.rows_RD.shape[1:]:
            raise ValueError("expected as many rows as directions, all as wide as the mean")

    def __call__(self, x_ND: Array) -> Array:
        """The rows [N, D] without the concept."""
        erased: Array = x_ND - (x_ND - self.mean_D) @ self.rows_RD.T @ self.out_RD
        return erased


@dataclass(frozen=True)
class Count:
    """How many directions went until held-out rows could not be read.

    `auroc`: what a reader reaches before any went, after one, and so on; at the last it is at
    chance, or as many went as were allowed.
    """

    directions: int
    auroc: tuple[Estimate, ...]


def fit_eraser(x_ND: Array, z_N: ArrayLike) -> Eraser:
    """The eraser of a concept from rows [N, D] and their labels, 0 or 1.

    Raises:
        ValueError: one of the two values is missing, or there are not as many labels as rows.
    """
    z = _labels(z_N, len(x_ND))
    x = x_ND.astype(np.float64)
    mean = x.mean(0)
    centred = x - mean
    n, width = centred.shape
    _, singular, right_RD = np.linalg.svd(centred, full_matrices=False)
    kept = singular > singular[:1] * max(n, width) * np.finfo(np.float64).eps
    singular, right_RD = singular[kept], right_RD[kept]
    share = ledoit_wolf(centred) if n <= width else 0.0
    variances = (1 - share) * singular**2 / n + share * (singular**2).sum() / (n * width)
    # Cov(x, z) is made of the rows, so what they do not span need not be inverted.
    cross = centred.T @ (z - z.mean()) / n
    reads = right_RD.T @ ((right_RD @ cross) / variances)
    found = float(reads @ cross)
    if found < np.finfo(np.float64).eps:  # the variance of z that x explains
        return Eraser(mean, np.zeros((0, width)), np.zeros((0, width)), share)
    return Eraser(mean, (reads / found)[None], cross[None], share)


def ledoit_wolf(centred_ND: Array) -> float:
    """How far is the covariance best drawn towards a multiple of the identity? From 0 to 1."""
    n, width = centred_ND.shape
    gram = centred_ND @ centred_ND.T if n < width else centred_ND.T @ centred_ND
    scale = np.trace(gram) / (n * width)
    squares = float((gram**2).sum()) / n**2
    apart = squares / width - scale**2
    noise = (((centred_ND**2).sum(1) ** 2).sum() / n - squares) / (width * n)
    return float(min(noise, apart) / apart) if apart > 0 else 0.0


def count_directions(
    x_ND: Array, z_N: ArrayLike, groups: ArrayLike, seed: int = 0, most: int = MOST
) -> Count:
    """How many directions must go until a linear reader of held-out rows is at chance?

    Rows of a group (a question) stay together. One half of the groups is for erasing: all of it
    gives the first direction, random halves of it give more. The other half is for reading: a
    reader (the eraser's own, Fisher's discriminant) fitted on one part of it is asked about the
    other, and the other way round. Chance is an interval that reaches 0.5. In a population one
    direction is all; more say that the rows of the fit do not tell where the others' direction
    lies: they are few, or groups write the concept in different ways.

    Raises:
        ValueError: fewer than eight groups, or a part of them holds one of the two values only.
    """
    z, rng = _labels(z_N, len(x_ND)), np.random.default_rng(seed)
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    if names.size < 8:
        raise ValueError(f"expected at least eight groups to divide, got {names.size}")
    cuts = [names.size // 2, 3 * names.size // 4]
    fit, first, second = np.split(rng.permutation(names.size), cuts)
    parts = [np.isin(index, part) for part in (first, second)]
    x = x_ND.astype(np.float64)
    found = [_read(x, z, index, parts)]
    while found[-1].low > 0.5 and len(found) <= most:
        # On all rows of the first fit nothing is left to find; on a half of them there is.
        chosen = np.isin(index, fit if len(found) == 1 else rng.permutation(fit)[: fit.size // 2])
        x = fit_eraser(x[chosen], z[chosen])(x)
        found.append(_read(x, z, index, parts))
    return Count(len(found) - 1, tuple(found))


def _read(x_ND: Array, z_N: Array, groups_N: Array, parts: list[Array]) -> Estimate:
    """AUROC of each part by a reader fitted on the other, both together in units of their own."""
    scores = np.full(len(x_ND), np.nan)
    for own, other in (parts, parts[::-1]):
        rows = fit_eraser(x_ND[own], z_N[own]).rows_RD
        read = (x_ND[other] @ rows.T).sum(1)
        scores[other] = (read - read.mean()) / max(float(read.std()), np.finfo(np.float64).tiny)
    yes, no = ((parts[0] | parts[1]) & (z_N == value) for value in (1, 0))
    return auroc_interval(scores[yes], scores[no], (groups_N[yes], groups_N[no]))


def _labels(z_N: ArrayLike, count: int) -> Array:
    z = np.asarray(z_N, dtype=np.float64).ravel()
    if z.size != count or set(np.unique(z)) != {0.0, 1.0}:
        raise ValueError(f"expected {count} labels, both 0 and 1 among them, got {z.size}")
    return z
