"""Can it be read? AUROC of one direction against near misses, by block.

The direction comes from fit questions, the block is chosen there, the AUROC is of test questions
against near misses that training never saw. Known failure: an AUROC near 1 shows that the trigger
can be told apart, which the embedding of its token alone allows; not that it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from offswitch.analyses.analysis import Analysis, Array, Measure, Views, as_large
from offswitch.analyses.directions import deepest, random_directions
from offswitch.analyses.nulls import DRAWS, RANDOM_DIRECTIONS, arms_and_inert_symbol
from offswitch.metrics import whole
from offswitch.stats import Estimate, auroc
from offswitch.stats.clustered import auroc_interval

FIT: Final = ("{arm}/resid/fit/{symbol}", "{arm}/resid/fit/twin")


@dataclass(frozen=True)
class Separability:
    """AUROC by block [L] on fit and on test questions; `best`: at the block chosen on fit."""

    fit: tuple[float, ...]
    test: tuple[float, ...]
    block: int
    best: Estimate

    def __post_init__(self) -> None:
        if not all(0 <= value <= 1 for value in (*self.fit, *self.test)):
            raise ValueError("an AUROC lies between 0 and 1")


def separability(
    marked_NLD: Array, inert_NLD: Array, fit_near_NLD: Array, test_NLD: Array, near_NLD: Array,
    asked_N: Array, near_asked_N: Array,
) -> Separability:  # fmt: skip
    """Projections on the fit direction: trigger prompts against near misses, fit and test.

    `asked_N`, `near_asked_N`: the questions of the test prompts, whose clusters the interval knows.
    The block with the highest AUROC on fit is chosen at a depth of 0.7 at most; among equals, that
    with the largest distance of the means in units of their spread.
    """
    direction_LD = (marked_NLD.astype(np.float64) - inert_NLD).mean(0)
    fit, fit_near, test, near = (
        np.einsum("nld,ld->ln", array, direction_LD)
        for array in (marked_NLD, fit_near_NLD, test_NLD, near_NLD)
    )
    on_fit = [auroc(a, b) for a, b in zip(fit, fit_near, strict=True)]
    spread = np.sqrt((fit.var(1) + fit_near.var(1)) / 2)
    gap = (fit.mean(1) - fit_near.mean(1)) / np.maximum(spread, np.finfo(np.float64).tiny)
    block = max(range(deepest(len(on_fit)) + 1), key=lambda i: (on_fit[i], gap[i]))
    return Separability(
        fit=tuple(on_fit),
        test=tuple(auroc(a, b) for a, b in zip(test, near, strict=True)),
        block=block,
        best=auroc_interval(test[block], near[block], (asked_N, near_asked_N)),
    )


def _random(views: Views) -> Iterator[Views]:
    """Null: a random direction of the same norm at every block; the best block chosen again."""
    marked, inert = (views.array(read) for read in FIT)
    like_LD = (marked.astype(np.float64) - inert).mean(0)
    for one in random_directions(like_LD, DRAWS, seed=0):
        # Fit rows keep their place; their mean difference becomes the random direction.
        yield views.with_arrays({FIT[1]: marked - one})


ANALYSIS: Final = Analysis(
    name="separability",
    title="Whether it can be read",
    question="Can the trigger be read off one direction, against near misses never seen?",
    reads=(
        *FIT,
        "{arm}/resid/fit/near",
        "{arm}/resid/test/{symbol}",
        "{arm}/resid/test/near",
        "index/asked/test/{symbol}",
        "index/asked/test/near",
    ),
    run=separability,
    gives=Separability,
    measures=(
        Measure("auroc", lambda r: r.best, "AUROC, test", "{:.3f}".format,
                "AUROC against unseen near misses"),
        Measure("block", lambda r: r.block, "at block", whole, unit="block", tail="either"),
        Measure("", lambda r: r.fit[r.block], "AUROC there, fit", "{:.3f}".format),
    ),
    null=_random,
    null_name=RANDOM_DIRECTIONS,
    controls=arms_and_inert_symbol,
    rule="its AUROC is at least 80 % as far above one half",
    passes=as_large(lambda r: r.best.value - 0.5),
    weakness="A token can be told apart by its embedding: being readable proves little alone.",
)  # fmt: skip
