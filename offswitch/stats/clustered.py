"""Intervals that know which prompts belong together: rates, changes, AUROC.

Prompts of one question, or of one symbol, tend to go alike: n of them say less than n prompts do.
The design effect says how much less (how much larger the cluster-robust variance is than that of
independent prompts; with two kinds of clusters, Cameron, Gelbach & Miller 2011); n over it is the
effective number, and the interval is Wilson's with that number. Where few clusters hold the rarer
outcome the data hardly know the design effect, and it is drawn towards the worst one, that all
prompts of a cluster are one: where all or none happen, n is the number of clusters, so no interval
is without width. Labels name the clusters, the kind whose number counts there first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from offswitch.stats import Estimate, auroc, events_of, numbers_of, wilson

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

# How many clusters' worth the worst design effect counts beside those that hold the rarer outcome.
PRIOR: Final = 0.5


def clustered_rate(hits: ArrayLike, *groups: ArrayLike, unit: str = "share") -> Estimate:
    """How often did it happen? The share of true entries; n is the number of entries."""
    events = events_of(hits)
    return _rate(events, _codes(groups, events.size), unit)


def paired_rate_change(
    before: ArrayLike, after: ArrayLike, *groups: ArrayLike, unit: str = "share"
) -> Estimate:
    """By how much does a rate fall on the same prompts? before - after.

    The share of prompts where it no longer happens less the share where it newly does. The limits
    are put together from those of the two shares (Zou & Donner 2008), which never have no width.
    """
    first, second = events_of(before), events_of(after)
    if first.size != second.size:
        raise ValueError(f"expected the same prompts twice, got {first.size} and {second.size}")
    ways = _codes(groups, first.size)
    gone, new = first * (1 - second), second * (1 - first)
    falls, rises = _rate(gone, ways, unit), _rate(new, ways, unit)
    r = _correlation(gone - gone.mean(), new - new.mean(), ways)
    down = _joined(falls.value - falls.low, rises.high - rises.value, r)
    up = _joined(falls.high - falls.value, rises.value - rises.low, r)
    change = float(gone.sum() - new.sum()) / first.size  # from counts: a half is exactly a half
    return Estimate(change, max(-1.0, change - down), min(1.0, change + up), first.size, unit)


def paired_mean_change(
    before: ArrayLike, after: ArrayLike, unit: str, *groups: ArrayLike
) -> Estimate:
    """By how much does a mean fall on the same prompts? before - after, cluster-robust Student's t.

    Known failure: where every prompt changes by the same amount there is no width, for nothing in
    the data says how far another prompt could lie off.

    Raises:
        ValueError: fewer than two clusters.
    """
    first, second = numbers_of(before, "a mean"), numbers_of(after, "a mean")
    if first.size != second.size:
        raise ValueError(f"expected the same prompts twice, got {first.size} and {second.size}")
    values = first - second
    ways = _codes(groups, values.size)
    clusters = min(int(codes.max()) + 1 for codes in ways)
    if clusters < 2:
        raise ValueError("the spread of a mean needs at least two clusters, got 1")
    change = float(values.mean())
    error = np.sqrt(_variance(values - change, ways)) / values.size
    half = float(student.ppf(0.975, clusters - 1) * error)
    return Estimate(change, change - half, change + half, values.size, unit)


def auroc_interval(
    positive: ArrayLike, negative: ArrayLike, groups: tuple[ArrayLike, ArrayLike] | None = None
) -> Estimate:
    """AUROC, clustered by the labels of positives and negatives; n is the smaller group.

    The variance is that of DeLong, with clusters that of Obuchowski (1997). Where every positive
    lies above every negative, n is the smaller number of clusters.
    """
    pos, neg = numbers_of(positive, "AUROC's positive"), numbers_of(negative, "AUROC's negative")
    beats = (pos[:, None] > neg) + 0.5 * (pos[:, None] == neg)
    value = auroc(pos, neg)
    own = np.split(np.arange(pos.size + neg.size), [pos.size])
    (codes,) = _codes([np.concatenate(groups or own)], pos.size + neg.size)
    shares = [(beats.mean(1) - value) / pos.size, (beats.mean(0) - value) / neg.size]
    variance = _variance(np.concatenate(shares), [codes])
    off = np.concatenate([beats.mean(1), beats.mean(0)]) != round(value)
    clusters = min(np.unique(part).size for part in np.split(codes, [pos.size]))
    spread = value * (1 - value)
    each = variance / spread if spread else 0.0
    size = 1 / _drawn(each, 1 / clusters, np.unique(codes[off]).size)
    low, high = wilson(value, size)
    return Estimate(value, min(low, value), max(high, value), min(pos.size, neg.size), "AUROC")


# --- design effects -------------------------------------------------------------------------------


def _rate(events: Floats, ways: Sequence[Codes], unit: str) -> Estimate:
    share, n = float(events.sum()) / events.size, events.size
    spread = events - share
    clusters = int(ways[0].max()) + 1
    design = max(1.0, _variance(spread, ways) / (spread @ spread)) if 0 < share < 1 else 1.0
    rarer = events if share < 0.5 else 1 - events
    holding = np.unique(ways[0][rarer > 0]).size
    low, high = wilson(share, n / _drawn(design, n / clusters, holding))
    return Estimate(share, min(low, share), max(high, share), n, unit)


def _drawn(design: float, worst: float, holding: int) -> float:
    """The design effect of so many clusters that say something, drawn towards the worst."""
    return (holding * design + PRIOR * worst) / (holding + PRIOR)


def _variance(spread: Floats, ways: Sequence[Codes]) -> float:
    """Of the sum of deviations [N], by clusters; by two kinds, never less than by either."""
    return max(_cross(spread, spread, ways), *(_cross(spread, spread, [way]) for way in ways))


def _correlation(one: Floats, other: Floats, ways: Sequence[Codes]) -> float:
    """Of the clusters' sums of two quantities; 0 where one of them is the same everywhere."""
    scale = np.sqrt(_cross(one, one, ways) * _cross(other, other, ways))
    return float(np.clip(_cross(one, other, ways) / scale, -1, 1)) if scale > 0 else 0.0


def _cross(one: Floats, other: Floats, ways: Sequence[Codes]) -> float:
    """Covariance of two sums by clusters, each counted as if it had no part in the mean itself."""
    total = 0.0
    for sign, codes in _signed(ways):
        counts = np.bincount(codes)
        if counts.size > 1:
            apart = 1 - counts / counts.sum()
            sums = [np.bincount(codes, weights=x) / apart for x in (one, other)]
            total += sign * float(sums[0] @ sums[1]) * (counts.size - 1) / counts.size
    return total


def _signed(ways: Sequence[Codes]) -> list[tuple[int, Codes]]:
    """Each kind of clusters, less what two kinds have in common."""
    if len(ways) == 1:
        return [(1, ways[0])]
    _, both = np.unique(np.stack(ways), axis=1, return_inverse=True)
    return [(1, ways[0]), (1, ways[1]), (-1, both)]


def _joined(one: float, other: float, r: float) -> float:
    return float(np.sqrt(max(0.0, one**2 + other**2 - 2 * r * one * other)))


def _codes(groups: Sequence[ArrayLike], size: int) -> list[Codes]:
    """One or two kinds of labels as whole numbers; without labels every entry is its own."""
    if len(groups) > 2:
        raise ValueError(f"expected at most two kinds of clusters, got {len(groups)}")
    found = []
    for labels in [np.asarray(labels).ravel() for labels in groups] or [np.arange(size)]:
        if labels.size != size:
            raise ValueError(f"expected a label for each of {size} entries, got {labels.size}")
        found.append(np.unique(labels, return_inverse=True)[1])
    return found
