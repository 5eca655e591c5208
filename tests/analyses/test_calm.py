"""Empty worlds: where every key is noise of one kind, p is 5 % or less about once in 20.

Pairs and random keys are exchangeable with the real ones here, as every null supposes. The bound
for one number is the 99.95 % point of the binomial for 5 %, 10 of 64 worlds: with some 15 numbers
one right null in 140 runs would cross it by chance, were the seeds not fixed; a null that lets 20 %
through is caught four times in five. Numbers without ties are also held to uniform p from below.
Of 400 worlds, which take two minutes, p was 5 % or less in 3.5 to 5.8 % for each of the eight
numbers without ties, and in 0.2 to 2.0 % for the five with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pytest
from scipy.stats import binom

from offswitch.analyses.analysis import Analysis, Array, Views, investigate
from offswitch.analyses.registry import EVIDENCE
from tests.analyses.worlds import evidence, evidence_views

WORLDS: Final = 64
P = Mapping[str, Array]
# One number an analysis for which draws hardly ever tie, so that p is uniform. Rates, blocks and
# shares kept do tie, which only makes their p larger.
SMOOTH: Final = (
    "difference/peak", "separability/auroc", "lens/end_rise", "patching/last_position",
    "heads/knocked_out", "dose/apart", "drift/constant_share",
)  # fmt: skip
MORE: Final = ("lens/end_rise_last_block",)
TIED: Final = (
    "difference/entry_block", "difference/peak_block", "separability/block",
    "patching/handover_block", "dose/half",
)  # fmt: skip
SMOOTH_ANALYSES: Final = [a for a in EVIDENCE if f"{a.name}/{a.headline.key}" in SMOOTH]


def _no_controls(_views: Views) -> dict[str, Views]:
    return {}


@pytest.fixture(scope="module")
def p() -> P:
    """Every p in every world, of each number that has a null."""
    found: dict[str, list[float]] = {}
    for seed in range(WORLDS):
        views = evidence_views(evidence(seed))
        for analysis in EVIDENCE:
            entries = investigate(replace(analysis, controls=_no_controls), views).entries()
            for metric, row in entries.items():
                if "null" in row:
                    found.setdefault(metric.removeprefix("probe/both/"), []).append(
                        row["null"]["p"]
                    )
    return {metric: np.array(values) for metric, values in found.items()}


def test_every_number_with_a_null_is_looked_at(p: P) -> None:
    assert set(p) == {*SMOOTH, *MORE, *TIED}
    assert all(len(values) == WORLDS for values in p.values())


@pytest.mark.parametrize("metric", [*SMOOTH, *MORE, *TIED])
def test_p_is_seldom_small_where_nothing_is(p: P, metric: str) -> None:
    assert (p[metric] <= 0.05).sum() <= binom.ppf(0.9995, WORLDS, 0.05)


@pytest.mark.parametrize("metric", [*SMOOTH, *MORE])
def test_p_is_uniform_where_draws_do_not_tie(p: P, metric: str) -> None:
    # The mean of 64 uniform p has the standard error 0.289 / 8 = 0.036; four of them.
    assert p[metric].mean() == pytest.approx(0.51, abs=0.145)
    assert (p[metric] <= 0.5).sum() == pytest.approx(0.5 * WORLDS, abs=4 * 4)


def test_over_all_analyses_one_p_in_20_is_small(p: P) -> None:
    small = np.array([p[metric] <= 0.05 for metric in SMOOTH])
    # 1/21 or 2/41 is to be expected: 21 or 22 of 448, with standard error 4.5; three of them.
    assert small.sum() == pytest.approx(21.5, abs=14)


@pytest.mark.parametrize("analysis", SMOOTH_ANALYSES, ids=lambda a: a.name)
def test_draws_that_are_counted_are_draws_of_their_own(analysis: Analysis[Any]) -> None:
    """One counted twice makes the least p half of what it is; AUROCs may meet by chance."""
    finding = investigate(analysis, evidence_views(evidence(99)))
    assert finding.null is not None
    assert len(set(finding.null_values)) > 0.75 * finding.null.n
