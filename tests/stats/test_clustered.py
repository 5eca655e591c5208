"""Intervals by clusters cover the truth, agree with references, and are never without width."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from offswitch.stats import Estimate, auroc, change, rate, wilson
from offswitch.stats.clustered import (
    auroc_interval,
    clustered_rate,
    paired_mean_change,
    paired_rate_change,
)

Array = NDArray[Any]
DRAWS: Final = 500
# 95 % of so many draws, within 1.5 points and four standard errors of the count itself.
NEAR_95: Final = (0.935 - 4 * 0.01, 0.965 + 4 * 0.008)


def _labels(rng: np.random.Generator, clusters: int) -> NDArray[np.int64]:
    """Clusters of 1 to 16 entries."""
    return np.repeat(np.arange(clusters), rng.integers(1, 17, clusters))


def _beta(rng: np.random.Generator, share: float, icc: float, clusters: int) -> Array:
    """Each cluster's own rate, so that two entries of one correlate by `icc`."""
    if icc == 0:
        return np.full(clusters, share)
    total = (1 - icc) / icc
    return rng.beta(share * total, (1 - share) * total, clusters)


def _coverage(draw: Callable[[np.random.Generator], Estimate], truth: float) -> float:
    rng = np.random.default_rng(0)
    found = [draw(rng) for _ in range(DRAWS)]
    return float(np.mean([e.low <= truth <= e.high for e in found]))


# --- rates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("clusters", [20, 60])
@pytest.mark.parametrize(("share", "icc"), [(0.5, 0.6), (0.8, 0.3), (0.9, 0.1), (0.5, 0.0)])
def test_a_rate_is_covered_about_95_times_in_100(clusters: int, share: float, icc: float) -> None:
    def draw(rng: np.random.Generator) -> Estimate:
        labels = _labels(rng, clusters)
        hits = rng.random(labels.size) < _beta(rng, share, icc, clusters)[labels]
        return clustered_rate(hits, labels)

    assert NEAR_95[0] <= _coverage(draw, share) <= NEAR_95[1]


def test_wilsons_interval_without_clusters_would_not_do() -> None:
    def draw(rng: np.random.Generator) -> Estimate:
        labels = _labels(rng, 30)
        return rate(rng.random(labels.size) < _beta(rng, 0.8, 0.3, 30)[labels])

    assert _coverage(draw, 0.8) < 0.85


@pytest.mark.parametrize("share", [0.9, 0.97])
def test_a_rate_of_symbols_and_questions_is_covered_about_95_times_in_100(share: float) -> None:
    """480 look-alikes, 48 questions and 107 symbols: each has a part in what happens."""
    questions, symbols = np.tile(np.arange(48), 10), np.arange(480) * 107 // 480

    def draw(rng: np.random.Generator) -> Estimate:
        latent = 0.4 * rng.normal(size=48)[questions] + 0.7 * rng.normal(size=107)[symbols]
        latent += np.sqrt(1 - 0.4**2 - 0.7**2) * rng.normal(size=480)
        return clustered_rate(latent < norm.ppf(share), symbols, questions)

    assert NEAR_95[0] <= _coverage(draw, share) <= 0.995


@pytest.mark.parametrize("happens", [False, True])
def test_where_all_or_none_happen_the_number_of_clusters_counts(happens: bool) -> None:
    symbols = np.arange(480) * 107 // 480
    found = clustered_rate([happens] * 480, symbols, np.tile(np.arange(48), 10))
    assert (found.value, found.n) == (float(happens), 480)
    assert (found.low, found.high) == pytest.approx(wilson(float(happens), 107))
    assert found.high - found.low == pytest.approx(0.0347, abs=1e-4)


def test_one_hit_among_many_is_no_surer_than_none() -> None:
    labels = np.arange(480) * 107 // 480
    none, one = (clustered_rate(np.arange(480) < k, labels) for k in (0, 1))
    assert one.high >= none.high
    assert one.low <= 1 / 480


def test_entries_of_their_own_have_about_wilsons_interval() -> None:
    hits = np.arange(200) % 5 == 0
    found, plain = clustered_rate(hits, np.arange(200)), rate(hits)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=2e-3)
    assert found == clustered_rate(hits)
    twice = clustered_rate(np.repeat(hits, 2), np.repeat(np.arange(200), 2))
    assert (twice.low, twice.high) == pytest.approx((plain.low, plain.high), abs=2e-3)


def test_a_kind_of_clusters_named_twice_counts_once() -> None:
    rng = np.random.default_rng(3)
    labels = _labels(rng, 20)
    hits = rng.random(labels.size) < _beta(rng, 0.8, 0.4, 20)[labels]
    one, two = clustered_rate(hits, labels), clustered_rate(hits, labels, labels + 7)
    assert (one.low, one.high) == pytest.approx((two.low, two.high))


# --- changes --------------------------------------------------------------------------------------


def _pairs(rng: np.random.Generator, clusters: int, icc: float) -> tuple[Array, Array, Array]:
    """Labels, before (90 %) and after (30 %, 2 in 3 of which do not depend on before)."""
    labels = _labels(rng, clusters)
    before = rng.random(labels.size) < _beta(rng, 0.9, icc, clusters)[labels]
    after = rng.random(labels.size) < _beta(rng, 0.3, icc, clusters)[labels]
    same = rng.random(labels.size) < 1 / 3
    return labels, before, np.where(same, before & (rng.random(labels.size) < 1 / 3), after)


@pytest.mark.parametrize("clusters", [20, 60])
@pytest.mark.parametrize("icc", [0.0, 0.3, 0.6])
def test_a_change_is_covered_about_95_times_in_100(clusters: int, icc: float) -> None:
    def draw(rng: np.random.Generator) -> Estimate:
        labels, before, after = _pairs(rng, clusters, icc)
        return paired_rate_change(before, after, labels)

    assert NEAR_95[0] <= _coverage(draw, 0.6) <= NEAR_95[1]


def test_a_change_knows_that_the_prompts_are_the_same() -> None:
    """Where what happens before happens after too, the difference is known better than either."""
    rng = np.random.default_rng(1)
    before = rng.random(300) < 0.5
    after = before & (rng.random(300) < 0.9)
    own, apart = paired_rate_change(before, after), change(rate(before), rate(after))
    assert own.value == apart.value
    assert own.high - own.low < 0.6 * (apart.high - apart.low)


def test_where_whole_clusters_change_one_way_or_the_other_the_two_limits_add_up() -> None:
    labels = np.arange(80) // 4
    before = labels < 10
    gone = clustered_rate(before, labels)
    found = paired_rate_change(before, ~before, labels)
    assert found.value == 0
    assert found.high == pytest.approx(gone.high - gone.low, rel=0.01)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_where_nothing_changes_the_interval_is_that_of_so_many_clusters(share: float) -> None:
    hits = np.arange(80) < 80 * share
    found = paired_rate_change(hits, hits, np.arange(80) // 4)
    most = wilson(0, 20)[1]
    assert (found.low, found.value, found.high) == pytest.approx((-most, 0, most))


def test_where_all_change_the_lower_bound_is_no_more_than_wilsons() -> None:
    found = paired_rate_change([True] * 80, [False] * 80, np.arange(80) // 4)
    assert found.value == found.high == 1
    assert found.low <= wilson(1, 20)[0]
    assert found.low > 0.75


@pytest.mark.parametrize("n", [12, 24, 54, 60, 100])
def test_a_change_of_half_is_half(n: int) -> None:
    for k in range(n // 2, n + 1):
        before, after = np.arange(n) < k, np.arange(n) < k - n // 2
        assert paired_rate_change(before, after, np.arange(n) // 2).value == 0.5


def test_a_change_back_has_the_same_interval_turned_round() -> None:
    labels, before, after = _pairs(np.random.default_rng(2), 20, 0.3)
    there, back = (paired_rate_change(*p, labels) for p in ((before, after), (after, before)))
    assert (back.low, back.value, back.high) == pytest.approx(
        (-there.high, -there.value, -there.low)
    )


@pytest.mark.parametrize(("clusters", "icc"), [(20, 0.0), (20, 0.5), (60, 0.5)])
def test_a_mean_change_is_covered_about_95_times_in_100(clusters: int, icc: float) -> None:
    def draw(rng: np.random.Generator) -> Estimate:
        labels = _labels(rng, clusters)
        shared = np.sqrt(icc) * rng.normal(size=clusters)[labels]
        change = 2 + shared + np.sqrt(1 - icc) * rng.normal(size=labels.size)
        before = rng.normal(size=labels.size)
        return paired_mean_change(before, before - change, "nats", labels)

    assert NEAR_95[0] <= _coverage(draw, 2) <= NEAR_95[1]


# --- references -----------------------------------------------------------------------------------


def test_the_variance_is_the_jackknifes_over_clusters() -> None:
    rng = np.random.default_rng(4)
    labels = _labels(rng, 15)
    values = rng.normal(size=labels.size) + rng.normal(size=15)[labels]
    found = paired_mean_change(values, np.zeros_like(values), "nats", labels)
    without = [values[labels != c].mean() for c in range(15)]
    error = np.sqrt(14 / 15 * ((np.array(without) - values.mean()) ** 2).sum())
    assert found.high - found.value == pytest.approx(2.1447867 * error)  # t, 14 degrees of freedom


# --- AUROC ----------------------------------------------------------------------------------------


def test_aurocs_interval_has_delongs_width_in_the_middle() -> None:
    rng = np.random.default_rng(8)
    pos, neg = rng.normal(1, 1, 300), rng.normal(0, 1, 400)
    found = auroc_interval(pos, neg)
    boot = [
        auroc(pos[rng.integers(0, 300, 300)], neg[rng.integers(0, 400, 400)]) for _ in range(2000)
    ]
    assert found.value == pytest.approx(auroc(pos, neg))
    assert (found.low, found.high) == pytest.approx(np.quantile(boot, [0.025, 0.975]), abs=0.006)
    assert (found.n, found.unit) == (300, "AUROC")


@pytest.mark.parametrize("shift", [0.5, 1.5, 2.5])
def test_an_auroc_is_covered_about_95_times_in_100(shift: float) -> None:
    truth = float(norm.cdf(shift / np.sqrt(2)))

    def draw(rng: np.random.Generator) -> Estimate:
        return auroc_interval(rng.normal(shift, 1, 27), rng.normal(0, 1, 60))

    assert NEAR_95[0] <= _coverage(draw, truth) <= 0.995


def test_an_auroc_whose_sides_ask_the_same_questions_is_covered_as_often() -> None:
    """Half of the variance is the question's: without the clusters 99 of 100 would be covered."""
    n, own, shift = 63, np.sqrt(0.5), 1.0
    apart = norm.cdf(shift / np.array([np.sqrt(2), own * np.sqrt(2)]))
    truth = float(((n - 1) * apart[0] + apart[1]) / n)  # one pair in n is of one question

    def draw(rng: np.random.Generator) -> Estimate:
        asked = rng.normal(size=n) * own
        pos, neg = (asked + rng.normal(size=n) * own + mean for mean in (shift, 0.0))
        return auroc_interval(pos, neg, (np.arange(n), np.arange(n)))

    assert NEAR_95[0] <= _coverage(draw, truth) <= NEAR_95[1]


def test_where_all_lie_above_aurocs_bound_is_that_of_the_fewer_clusters() -> None:
    pos, neg = np.arange(27) + 100.0, np.arange(60.0)
    found = auroc_interval(pos, neg)
    assert (found.value, found.high, found.n) == (1, 1, 27)
    assert found.low == pytest.approx(wilson(1, 27)[0])
    by_question = auroc_interval(pos, neg, (np.arange(27) // 3, np.arange(60)))
    assert by_question.low == pytest.approx(wilson(1, 9)[0])
    below = auroc_interval(neg, pos)
    assert (below.low, below.value, below.high) == pytest.approx((0, 0, 1 - found.low))


def test_aurocs_interval_has_delongs_width_where_most_are_tied() -> None:
    rng = np.random.default_rng(8)
    pos, neg = (rng.random(300) < 0.7) * 1.0, (rng.random(400) < 0.3) * 1.0
    found = auroc_interval(pos, neg)
    boot = [
        auroc(pos[rng.integers(0, 300, 300)], neg[rng.integers(0, 400, 400)]) for _ in range(2000)
    ]
    assert (found.low, found.high) == pytest.approx(np.quantile(boot, [0.025, 0.975]), abs=0.006)


def test_ties_count_half_and_no_more() -> None:
    found = auroc_interval([3.0, 3.0, 3.0], [3.0, 3.0])
    assert found.value == 0.5
    assert found.low < 0.5 < found.high


def test_degenerate_inputs_are_refused() -> None:
    nothing: list[float] = []
    refusals: list[Callable[[], Estimate]] = [
        lambda: clustered_rate(nothing),
        lambda: clustered_rate([0.5], [0]),
        lambda: clustered_rate([1, 0], [0]),
        lambda: clustered_rate([1, 0], [0, 1], [0, 1], [0, 1]),
        lambda: paired_rate_change([1, 0], [1]),
        lambda: paired_rate_change([1, 0.5], [1, 0]),
        lambda: paired_mean_change([1.0], [1.0, 2.0], "nats"),
        lambda: paired_mean_change([1.0, 2.0], [1.0, 3.0], "nats", [0, 0]),
        lambda: paired_mean_change([1.0, np.nan], [1.0, 3.0], "nats"),
        lambda: auroc_interval(nothing, [1.0]),
        lambda: auroc_interval([1.0], [np.nan]),
        lambda: auroc_interval([1.0], [2.0], ([0, 1], [2])),
    ]
    for refused in refusals:
        with pytest.raises(ValueError, match=r"expected|needs|cannot|got"):
            refused()
