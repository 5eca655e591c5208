"""LEACE: what to take out of an array so that no linear reader finds a yes-or-no concept in it.

Belrose et al., "LEACE: Perfect linear concept erasure in closed form" (2023), theorem 4.3. A
concept z with two values has one cross-covariance c = Cov(x, z), so one direction goes: with
b = S^-1 c, the eraser is x - c (b . (x - mean)) / (b . c), the smallest change (in the metric of
the covariance S) after which Cov(x, z) = 0. Where there are no more rows than columns S cannot be
inverted, and is drawn towards the mean variance times the identity as far as Ledoit & Wolf (2004)
say; Cov(x, z) = 0 on the rows of the fit holds whatever stands for S, only "smallest" is lost.
Known failure: that is so on the rows of the fit; others may still be read. Erasing again and again
until they cannot is no count of directions: with fewer rows than columns a reader finds what each
fit missed, and one planted direction counted as 32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from offswitch.analyses.analysis import Array


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


def _labels(z_N: ArrayLike, count: int) -> Array:
    z = np.asarray(z_N, dtype=np.float64).ravel()
    if z.size != count or set(np.unique(z)) != {0.0, 1.0}:
        raise ValueError(f"expected {count} labels, both 0 and 1 among them, got {z.size}")
    return z
