"""Numbers with their uncertainty: rates, means, AUC, permutation; every random choice takes a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, rankdata


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, the count behind it, and its unit."""

    value: float
    low: float
    high: float
    n: int
    unit: str

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"an estimate needs at least one observation, got n={self.n}")
        if not self.low <= self.value <= self.high:
            raise ValueError(f"expected low <= value <= high, got {self.low}, {self.value}, {self.high}")


@dataclass(frozen=True)
class Null:
    """What the same measure gives where there is nothing: its 95 % quantile, n draws, and p of the real value."""

    q95: float
    p: float
    n: int


def rate(hits: ArrayLike, unit: str = "share") -> Estimate:
    """How often did it happen? The share of true entries with Wilson's 95 % interval."""
    events = np.asarray(hits, dtype=bool).ravel()
    if events.size == 0:
        raise ValueError("rate of nothing: expected at least one observation")
    k, n = int(events.sum()), int(events.size)
    interval = binomtest(k, n).proportion_ci(confidence_level=0.95, method="wilson")
    share = k / n
    return Estimate(share, min(float(interval.low), share), max(float(interval.high), share), n, unit)


def mean(
    values: ArrayLike, unit: str, *, seed: int, groups: ArrayLike | None = None, draws: int = 2000
) -> Estimate:
    """The mean with a percentile-bootstrap 95 % interval over groups (each value its own group if none given)."""
    data = np.asarray(values, dtype=np.float64).ravel()
    if data.size == 0:
        raise ValueError("mean of nothing: expected at least one observation")
    labels = np.arange(data.size) if groups is None else np.asarray(groups).ravel()
    _, index = np.unique(labels, return_inverse=True)
    sums, counts = np.bincount(index, weights=data), np.bincount(index)
    chosen = np.random.default_rng(seed).integers(0, sums.size, size=(draws, sums.size))
    resampled = sums[chosen].sum(1) / counts[chosen].sum(1)
    low, high = (float(q) for q in np.quantile(resampled, [0.025, 0.975]))
    centre = float(data.mean())
    return Estimate(centre, min(low, centre), max(high, centre), int(data.size), unit)


def auroc(positive: ArrayLike, negative: ArrayLike) -> float:
    """How often does a positive score beat a negative one? Ties count one half (Mann-Whitney U / n m)."""
    pos = np.asarray(positive, dtype=np.float64).ravel()
    neg = np.asarray(negative, dtype=np.float64).ravel()
    if pos.size == 0 or neg.size == 0:
        raise ValueError(f"AUROC needs both classes, got {pos.size} positive and {neg.size} negative")
    ranks = rankdata(np.concatenate([pos, neg]))
    u = ranks[: pos.size].sum() - pos.size * (pos.size + 1) / 2
    return float(u / (pos.size * neg.size))


def against_null(value: float, draws: ArrayLike) -> Null:
    """Where does a value stand among draws of its null? One-sided p with the +1 correction (Phipson & Smyth 2010)."""
    null: NDArray[np.float64] = np.asarray(draws, dtype=np.float64).ravel()
    if null.size == 0:
        raise ValueError("a null needs at least one draw")
    p = (1 + int((null >= value).sum())) / (null.size + 1)
    return Null(q95=float(np.quantile(null, 0.95)), p=p, n=int(null.size))
