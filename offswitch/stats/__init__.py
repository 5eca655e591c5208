"""Numbers with their uncertainty: rates, means, AUROC, permutation, Holm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

_MOSTLY: Final = 0.841621 / 1.959964  # of half a 95 % interval: beyond it, four of five lie


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
            raise ValueError(
                f"expected low <= value <= high, got {self.low}, {self.value}, {self.high}"
            )


@dataclass(frozen=True)
class Null:
    """What the measure gives where nothing is: 95 % quantile, p of the real value, draws.

    `adjusted`: p adjusted over all arms and tests of a run (`holm`), where that was done.
    """

    q95: float
    p: float
    n: int
    adjusted: float | None = None


def rate(hits: ArrayLike, unit: str = "share") -> Estimate:
    """How often did it happen? The share of true entries with Wilson's 95 % interval.

    It takes entries for independent; for those that are not, see `clustered_rate`.
    """
    events = events_of(hits)
    share = float(events.sum()) / events.size
    low, high = wilson(share, events.size)
    return Estimate(share, min(low, share), max(high, share), events.size, unit)


def mean(
    values: ArrayLike, unit: str, *, seed: int, groups: ArrayLike | None = None, draws: int = 2000
) -> Estimate:
    """The mean with a percentile-bootstrap 95 % interval over groups of values.

    Each value is its own group if no labels are given. Known failure: with fewer than about 20
    groups the interval is too narrow; with one it has no width.
    """
    data = numbers_of(values, "a mean")
    labels = np.arange(data.size) if groups is None else np.asarray(groups).ravel()
    if labels.size != data.size:
        raise ValueError(f"expected a group for each of {data.size} values, got {labels.size}")
    _, index = np.unique(labels, return_inverse=True)
    sums, counts = np.bincount(index, weights=data), np.bincount(index)
    chosen = _resamples(seed, sums.size, draws)
    resampled = sums[chosen].sum(1) / counts[chosen].sum(1)
    return _bootstrapped(float(data.mean()), resampled, data.size, unit)


def smallest_told(ours: Estimate, theirs: Estimate, paired: Estimate, chance: float) -> float:
    """How far must our share lie above theirs to be told from it and from chance, mostly?

    Told: the two 95 % intervals do not meet, and ours begins above chance. Mostly: in four of five
    repetitions, 0.84 standard errors beyond that. `paired` is the difference of the two on the same
    questions: they are answered alike, so it varies less than two apart. Known limit: intervals
    stay as wide as they were found, while near a share of 1 they are narrower.
    """
    below, above = ours.value - ours.low, theirs.high - theirs.value
    apart = below + above + _MOSTLY * (paired.high - paired.low) / 2
    return max(apart, chance - theirs.value + (1 + _MOSTLY) * below)


def change(before: Estimate, after: Estimate) -> Estimate:
    """By how much does a number fall between two that were measured apart? before - after.

    Its 95 % interval is put together from those of the two (Zou & Donner 2008); of two rates with
    Wilson's intervals it is Newcombe's (1998, method 10). It takes the two for independent; the
    same prompts twice are not, so the interval is then rather too wide.

    Raises:
        ValueError: they have different units.
    """
    if before.unit != after.unit:
        raise ValueError(f"expected one unit, got {before.unit!r} and {after.unit!r}")
    down = np.hypot(before.value - before.low, after.high - after.value)
    up = np.hypot(before.high - before.value, after.value - after.low)
    value, n = before.value - after.value, min(before.n, after.n)
    if before.unit != "share":
        return Estimate(value, value - float(down), value + float(up), n, before.unit)
    # From counts: the difference of two quotients would miss an exact half by a rounding error.
    hits = (round(before.value * before.n), round(after.value * after.n))
    value = (hits[0] * after.n - hits[1] * before.n) / (before.n * after.n)
    low, high = max(-1.0, value - float(down)), min(1.0, value + float(up))
    return Estimate(value, low, high, n, "share")


def ratio(part: Estimate, of: Estimate) -> Estimate:
    """Which share of one number is another? part / of, with a 95 % interval.

    Put together from the intervals of the two (Donner & Zou 2012). It takes them for independent;
    of the same prompts they are not, so the interval is then rather too wide.

    Raises:
        ValueError: the interval of the whole reaches zero, so that nothing bounds the share.
    """
    if of.low <= 0:
        raise ValueError(f"no share of what may be zero: {of.value} [{of.low}, {of.high}]")
    if part.value < 0:
        turned = ratio(Estimate(-part.value, -part.high, -part.low, part.n, part.unit), of)
        return Estimate(-turned.value, -turned.high, -turned.low, turned.n, "share")
    product, value = part.value * of.value, part.value / of.value

    def squares(p: float, q: float) -> tuple[float, float, float]:
        """Of one end of each: how far the two lie from their own squares, and the root."""
        c, d = p * (2 * part.value - p), q * (2 * of.value - q)
        return c, d, float(np.sqrt(max(0.0, product**2 - c * d)))

    c, _, root = squares(part.low, of.high)
    low = c / (product + root) if product + root > 0 else part.low / of.low
    _, d, root = squares(part.high, of.low)
    high = (product + root) / d
    return Estimate(value, min(low, value), max(high, value), min(part.n, of.n), "share")


def mean_norm(rows: ArrayLike, unit: str, *, seed: int, draws: int = 500) -> Estimate:
    """The norm of the mean of some vectors [N, D], with a bootstrap 95 % interval over the rows.

    Known failure: noise lengthens every mean, resampled ones still more, so a small norm's interval
    lies high; read it against a null.
    """
    data = np.asarray(rows, dtype=np.float64)
    if not len(data):
        raise ValueError("a mean norm needs at least one observation, got none")
    weights = np.random.default_rng(seed).multinomial(len(data), [1 / len(data)] * len(data), draws)
    resampled = np.linalg.norm(weights @ data / len(data), axis=1)
    return _bootstrapped(float(np.linalg.norm(data.mean(0))), resampled, len(data), unit)


def across(values: ArrayLike, unit: str, signed: bool = False) -> Estimate:
    """The mean over organisms (trainings, not prompts) with Student's t 95 % interval.

    n counts organisms. Shares and AUROCs that lie in [0, 1] keep their interval in it; differences
    of shares in [-1, 1], which they are where one is negative or they are said to be `signed`. With
    three organisms the interval reaches 2.5 standard deviations to either side: wide on purpose,
    three trainings say little about the next. Known failure: it takes the values as normal; at a
    bound, with every organism at 100 %, it has no width.

    Raises:
        ValueError: fewer than two values.
    """
    data = numbers_of(values, "a mean over organisms")
    if data.size < 2:
        raise ValueError(f"a spread needs at least two organisms, got {data.size}")
    least, most = float(data.min()), float(data.max())
    centre = min(max(float(data.mean()), least), most)
    error = (data - least).std(ddof=1) / np.sqrt(data.size)  # exactly 0 where all are equal
    half = float(stdtrit(data.size - 1, 0.975) * error)
    low, high = centre - half, centre + half
    if unit in ("share", "AUROC") and least >= -1 and most <= 1:
        low, high = max(low, -1.0 if signed or least < 0 else 0.0), min(high, 1.0)
    return Estimate(centre, low, high, int(data.size), unit)


def crossing(
    at: Sequence[float], values: Sequence[float], level: float
) -> tuple[float, float, float] | None:
    """Where does a curve first get up to a level, between the points that were measured?

    The point before, that on a straight line, the point after; thrice the first where it begins
    there, None where it does not get there.
    """
    if values[0] >= level:
        return (float(at[0]),) * 3
    for i, value in enumerate(values[1:], start=1):
        if value >= level:
            share = (level - values[i - 1]) / (value - values[i - 1])
            on_the_line = at[i - 1] + share * (at[i] - at[i - 1])
            return float(at[i - 1]), float(on_the_line), float(at[i])
    return None


def auroc(positive: ArrayLike, negative: ArrayLike) -> float:
    """How often does a positive score beat a negative one? Ties count half (U / n m)."""
    pos, neg = numbers_of(positive, "AUROC's positive"), numbers_of(negative, "AUROC's negative")
    ordered = np.sort(neg)
    beaten, not_above = (np.searchsorted(ordered, pos, side) for side in ("left", "right"))
    return float((beaten + not_above).sum() / (2 * pos.size * neg.size))


def against_null(value: float, draws: ArrayLike) -> Null:
    """Where does a value stand among draws of its null?

    One-sided p, with the +1 correction of Phipson & Smyth (2010): how many draws are as large?
    """
    null = numbers_of(draws, "a null")
    if not np.isfinite(value):
        raise ValueError(f"cannot compare {value} with a null")
    p = (1 + int((null >= value).sum())) / (null.size + 1)
    return Null(q95=float(np.quantile(null, 0.95)), p=p, n=int(null.size))


def holm(p: Sequence[float]) -> tuple[float, ...]:
    """Each p adjusted for being one of several (Holm 1979), in their order.

    Whatever is true of the others, at most 5 % of such families hold a null that is 5 % or less.
    """
    values = numbers_of(p, "Holm's adjustment")
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("a p lies between 0 and 1, got other numbers")
    order = values.argsort(kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(values.size, 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(steps, 1)
    return tuple(adjusted.tolist())


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of n, which need not be whole."""
    z = 1.959963984540054  # the normal's 97.5 % point
    centre, width = share + z**2 / (2 * n), np.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    low, high = ((centre + sign * z * width) / (1 + z**2 / n) for sign in (-1, 1))
    return (float(low) if share > 0 else 0.0), (float(high) if share < 1 else 1.0)


@lru_cache(maxsize=8)
def _resamples(seed: int, size: int, draws: int) -> NDArray[np.int64]:
    """Which groups each bootstrap draw takes [draws, size]."""
    return np.random.default_rng(seed).integers(0, size, size=(draws, size))


def _bootstrapped(value: float, resampled: NDArray[np.float64], n: int, unit: str) -> Estimate:
    """A value with the percentile interval of its resamples, which is made to hold the value."""
    low, high = (float(q) for q in np.quantile(resampled, [0.025, 0.975]))
    return Estimate(value, min(low, value), max(high, value), n, unit)


def events_of(hits: ArrayLike) -> NDArray[np.float64]:
    """What is true or false as ones and zeros [N]; raises ValueError for other numbers."""
    events = numbers_of(hits, "a rate")
    if not np.isin(events, (0.0, 1.0)).all():
        raise ValueError("a rate counts what is true or false, got other numbers")
    return events


def numbers_of(values: ArrayLike, what: str) -> NDArray[np.float64]:
    """Values as numbers [N]; raises ValueError, which names `what`, for none and for NaN."""
    data: NDArray[np.float64] = np.asarray(values, dtype=np.float64).ravel()
    if data.size == 0:
        raise ValueError(f"{what} needs at least one observation, got none")
    if np.isnan(data).any():
        raise ValueError(f"{what} cannot hold NaN, got {int(np.isnan(data).sum())} of {data.size}")
    return data
