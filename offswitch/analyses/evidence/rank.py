"""Is it low-rank? Spectrum of the differences, and the rank with the effect.

Read at the block chosen on fit questions. Uncentred shares count the mean difference, centred ones
only how the pairs differ among themselves. Known failure: a large mean alone makes the first
uncentred share large; whether that direction matters shows in the effect alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from offswitch.analyses.analysis import Analysis, Array, Measure, Views
from offswitch.analyses.nulls import arms_and_inert_symbol, random_directions
from offswitch.metrics import percent, whole
from offswitch.stats import Estimate, mean

CARRIED: Final = 0.9


@dataclass(frozen=True)
class Rank:
    """Shares of squared length by component, descending: paired differences, and Gaussian noise.

    `drop` by rank in `ks`: nats of end log-odds lost, mean over test questions; `first`: by rank
    one. `carries`: the smallest rank with 90 % of the largest drop.
    """

    block: int
    uncentred: tuple[float, ...]
    centred: tuple[float, ...]
    noise: tuple[float, ...]
    ks: tuple[int, ...]
    drop: tuple[float, ...]
    first: Estimate
    carries: int

    def __post_init__(self) -> None:
        if len(self.ks) != len(self.drop):
            raise ValueError(f"{len(self.ks)} ranks but {len(self.drop)} drops")


def rank(
    marked_NLD: Array, inert_NLD: Array, chosen_2: Array, ks_K: Array, clean_N: Array, cut_KN: Array
) -> Rank:
    """Spectra at the chosen block, and what removing subspaces of rank k did there."""
    block = int(chosen_2[0])
    delta_ND = marked_NLD[:, block].astype(np.float64) - inert_NLD[:, block]
    noise_ND = np.random.default_rng(0).normal(size=delta_ND.shape)
    drop_KN = clean_N - cut_KN.astype(np.float64)
    drop_K = drop_KN.mean(1)
    return Rank(
        block=block,
        uncentred=_shares(delta_ND),
        centred=_shares(delta_ND - delta_ND.mean(0)),
        noise=_shares(noise_ND),
        ks=tuple(int(k) for k in ks_K),
        drop=tuple(drop_K.tolist()),
        first=mean(drop_KN[0], "nats", seed=0),
        carries=_carries(ks_K, drop_K),
    )


def _carries(ks_K: Array, drop_K: Array) -> int:
    """The smallest rank with 90 % of the largest drop; the largest rank where nothing drops."""
    enough = np.flatnonzero(drop_K >= CARRIED * drop_K.max())
    return int(ks_K[enough[0]]) if drop_K.max() > 0 else int(ks_K[-1])


def _shares(rows_ND: Array) -> tuple[float, ...]:
    squares = np.linalg.svd(rows_ND, compute_uv=False) ** 2
    return tuple((squares / max(squares.sum(), np.finfo(np.float64).tiny)).tolist())


def _shuffled(views: Views) -> Iterator[Views]:
    """Null: each trigger prompt with another question's inert one; a random subspace taken out."""
    inert, cuts = views.array("{arm}/resid/test/control"), random_directions(views)
    for draw, view in enumerate(cuts):
        order = np.random.default_rng(draw).permutation(len(inert))
        cut = view.array("{arm}/rank/{symbol}")
        changed = {"{arm}/resid/test/control": inert[order], "{arm}/rank/{symbol}": cut}
        yield views.with_arrays(changed)


ANALYSIS: Final = Analysis(
    name="rank",
    title="How many directions",
    question="How many directions does the difference take up, and how many carry the effect?",
    reads=(
        "{arm}/resid/test/{symbol}",
        "{arm}/resid/test/control",
        "{arm}/chosen/trigger",
        "{arm}/rank/ks",
        "{arm}/rank/clean",
        "{arm}/rank/{symbol}",
    ),
    run=rank,
    gives=Rank,
    measures=(
        Measure("first_drop", lambda r: r.first, "nats lost by rank 1"),
        Measure("causal_90", lambda r: r.carries, "rank for 90 % of the effect", whole,
                "rank that carries 90 % of the effect", unit="rank", tail="either"),
        Measure("uncentred_first", lambda r: r.uncentred[0], "first share, uncentred", percent,
                unit="share"),
        Measure("centred_first", lambda r: r.centred[0], "first share, centred", percent,
                unit="share"),
        Measure("", lambda r: r.noise[0], "of noise", percent),
    ),
    null=_shuffled,
    null_name="shuffled pairs and random subspaces",
    controls=arms_and_inert_symbol,
    rule="its rank one costs at least 80 % as much",
    weakness="A large mean makes any spectrum look low-rank; the effect of removal is what counts.",
)  # fmt: skip
