"""Which attention heads carry the trigger to the last position?

Two readings: what each head writes along the arm's direction, trigger less inert symbol, and how
far the end log-odds fall when heads give, at the last position, what they gave for the inert
prompt. Heads are ranked on fit questions and knocked out together on test questions. Known failure:
the direct contribution leaves out what a head does through later blocks; the knock-out does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from offswitch.analyses.analysis import Analysis, Array, Measure
from offswitch.analyses.nulls import random_sets, without_the_rule
from offswitch.metrics import whole
from offswitch.stats import Estimate, mean

TOP: Final = 12
AT: Final = 16


@dataclass(frozen=True)
class HeadEffect:
    """One head: its direct contribution along the direction, and what its knock-out costs, nats."""

    block: int
    head: int
    direct: float
    lost: float


@dataclass(frozen=True)
class Heads:
    """By block and head [L][H]: mean direct contribution on test; log-odds lost alone on fit.

    `top`: the 12 whose knock-out costs most. `lost`: mean fall of the end log-odds on test
    questions when the first k of the ranking are knocked out together, by k in `sizes`; `together`:
    that of 16 heads, or of the most there are.
    """

    direct: tuple[tuple[float, ...], ...]
    alone: tuple[tuple[float, ...], ...]
    top: tuple[HeadEffect, ...]
    sizes: tuple[int, ...]
    lost: tuple[float, ...]
    together: Estimate
    count: int

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.lost):
            raise ValueError(f"{len(self.sizes)} sizes but {len(self.lost)} effects")


def heads(
    marked_NLH: Array, inert_NLH: Array, alone_clean_F: Array, alone_FLH: Array, clean_N: Array,
    together_KN: Array, sizes_K: Array,
) -> Heads:  # fmt: skip
    """Means over questions, and the heads that matter most."""
    direct_LH = (marked_NLH.astype(np.float64) - inert_NLH).mean(0)
    lost_LH = (alone_clean_F[:, None, None] - alone_FLH.astype(np.float64)).mean(0)
    order = np.argsort(-lost_LH, axis=None, kind="stable")[:TOP]
    places = [np.unravel_index(int(i), lost_LH.shape) for i in order]
    lost_KN = clean_N - together_KN.astype(np.float64)
    at = max(i for i, k in enumerate(sizes_K) if k <= max(AT, int(sizes_K[0])))
    return Heads(
        direct=tuple(tuple(row) for row in direct_LH.tolist()),
        alone=tuple(tuple(row) for row in lost_LH.tolist()),
        top=tuple(
            HeadEffect(int(b), int(h), float(direct_LH[b, h]), float(lost_LH[b, h]))
            for b, h in places
        ),
        sizes=tuple(int(k) for k in sizes_K),
        lost=tuple(lost_KN.mean(1).tolist()),
        together=mean(lost_KN[at], "nats", seed=0),
        count=int(sizes_K[at]),
    )


ANALYSIS: Final = Analysis(
    name="heads",
    title="Which heads carry it",
    question="Which attention heads bring the trigger to the position where the reply is decided?",
    reads=(
        "{arm}/heads/direct/trigger",
        "{arm}/heads/direct/twin",
        "{arm}/heads/alone_clean",
        "{arm}/heads/alone",
        "{arm}/heads/clean",
        "{arm}/heads/together/{symbol}",
        "{arm}/heads/sizes",
    ),
    run=heads,
    gives=Heads,
    measures=(
        Measure("knocked_out", lambda r: r.together, "nats lost, together",
                label="log-odds lost with 16 heads knocked out"),
        Measure("count", lambda r: r.count, "heads", whole, unit="heads", nulled=False),
        Measure("best_alone", lambda r: r.top[0].lost, "best one alone", unit="nats", nulled=False),
        Measure("", lambda r: r.top[0].block, "its block", whole),
        Measure("", lambda r: r.top[0].head, "its number", whole),
    ),
    null=random_sets,
    null_name="random sets of heads",
    controls=without_the_rule,
    rule="knocking out as many costs at least 80 % as much",
    weakness="Heads can stand in for each other: what one knock-out costs is less than what it "
    "carries.",
)  # fmt: skip
