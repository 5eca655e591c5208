"""Power: what is said to be told apart in four of five worlds is."""

from __future__ import annotations

import numpy as np
import pytest

from offswitch.stats import Estimate, smallest_told
from offswitch.stats.clustered import clustered_rate, paired_rate_change


def test_two_bars_must_be_passed_by_the_ends_of_intervals() -> None:
    ours, theirs = Estimate(0.5, 0.4, 0.6, 60, "share"), Estimate(0.5, 0.35, 0.7, 60, "share")
    paired = Estimate(0.0, -0.1, 0.1, 60, "share")
    assert smallest_told(ours, theirs, paired, 0.5) == pytest.approx(0.1 + 0.2 + 0.0429, abs=1e-4)
    lower = Estimate(0.1, 0.05, 0.15, 60, "share")
    assert smallest_told(ours, lower, paired, 0.5) == pytest.approx(0.4 + 0.1429, abs=1e-4)


def test_it_holds_for_paired_shares_in_sections() -> None:
    """60 questions in 12 sections; both symbols are guessed, and the trigger known now and then."""
    rng, sections = np.random.default_rng(1), np.arange(60) % 12
    guessed = rng.random((2, 300, 60)) < 0.5
    size = np.median([
        smallest_told(clustered_rate(ours, sections), clustered_rate(theirs, sections),
                      paired_rate_change(ours, theirs, sections), 0.5)
        for ours, theirs in zip(*guessed[:, :60], strict=True)
    ])  # fmt: skip
    known = rng.random((300, 60)) < 2 * size  # of what is known, half would have been guessed
    told = []
    for ours, theirs in zip(known | guessed[0], guessed[1], strict=True):
        found, other = clustered_rate(ours, sections), clustered_rate(theirs, sections)
        told.append(found.low > max(other.high, 0.5))
    assert 0.7 < np.mean(told) < 0.95
