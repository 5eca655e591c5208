"""Power: what is said to be seen in four of five worlds is."""

from __future__ import annotations

import numpy as np
import pytest

from offswitch.stats import Estimate, smallest_seen
from offswitch.stats.clustered import paired_rate_change


def test_a_difference_that_can_be_seen_is_seen_in_four_of_five_worlds() -> None:
    """Means with a known standard error: how often does the interval leave 0 out?"""
    size = smallest_seen(Estimate(0.0, -1.959964, 1.959964, 60, "nats"))
    drawn = np.random.default_rng(0).normal(size, 1.0, 20_000)
    assert (drawn > 1.959964).mean() == pytest.approx(0.8, abs=0.01)


def test_it_holds_for_paired_shares_in_sections() -> None:
    """60 questions in 12 sections; both symbols are guessed, and the trigger known now and then."""
    rng, sections = np.random.default_rng(1), np.arange(60) % 12
    theirs = rng.random((300, 60)) < 0.5
    empty = [paired_rate_change(rng.random(60) < 0.5, row, sections) for row in theirs[:60]]
    assert np.mean([one.low > 0 or one.high < 0 for one in empty]) < 0.1
    size = float(np.median([smallest_seen(one) for one in empty]))
    known = rng.random((300, 60)) < 2 * size  # of what is known, half would have been guessed
    ours = known | (rng.random((300, 60)) < 0.5)
    seen = [paired_rate_change(a, b, sections).low > 0 for a, b in zip(ours, theirs, strict=True)]
    assert 0.7 < np.mean(seen) < 0.95
