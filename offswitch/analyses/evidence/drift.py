"""Did anything else change? What training left in residuals of neutral text.

After Minder et al. (2025): narrow fine-tuning leaves a constant shift on unrelated text, strongest
at the first few positions. How far residuals moved, relative to their length; how much of that is
the same for every passage; and what the shift reads as, by logit lens and by patchscope. Known
failure: a readable token is a trace of the training text, not of a rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from offswitch.analyses.analysis import Analysis, Array, Measure
from offswitch.analyses.nulls import SWAPS, swapped_pairs, without_the_rule
from offswitch.analyses.tokens import TokenChange
from offswitch.metrics import percent
from offswitch.stats import Estimate, mean

PARTS: Final = ("positions 1 to 4", "later positions")


@dataclass(frozen=True)
class Drift:
    """For early and later positions, by block [2][L]: how far residuals moved, how alike.

    `moved`: distance from the base relative to the base residual's length; `constant`: length of
    the mean shift over the mean length of shifts. `lens` and `patchscope` [2]: tokens that the mean
    shift at the middle block reads as. `early`, `later`: means of `moved` over blocks; `shared`:
    mean of `constant` over blocks, early positions.
    """

    moved: tuple[tuple[float, ...], ...]
    constant: tuple[tuple[float, ...], ...]
    lens: tuple[tuple[TokenChange, ...], ...]
    patchscope: tuple[tuple[TokenChange, ...], ...]
    early: Estimate
    later: Estimate
    shared: float

    def __post_init__(self) -> None:
        if not len(self.moved) == len(self.constant) == len(PARTS):
            raise ValueError(f"expected {len(PARTS)} parts, got {len(self.moved)}")


def drift(
    base_NL2D: Array, arm_NL2D: Array, norm_NL2: Array, size_NL2: Array,
    lens_2T2: Array, scope_2T2: Array, vocab_V: Array,
) -> Drift:  # fmt: skip
    """Relative distance and constancy of the shift arm - base."""
    shift = arm_NL2D.astype(np.float64) - base_NL2D
    tiny = np.finfo(np.float64).tiny
    length_L2 = np.maximum(np.linalg.norm(shift, axis=-1).mean(0), tiny)
    constant_L2 = np.linalg.norm(shift.mean(0), axis=-1) / length_L2
    moved_NL2 = norm_NL2.astype(np.float64) / np.maximum(size_NL2, tiny)
    early, later = (mean(moved_NL2[..., i].mean(1), "share", seed=0) for i in (0, 1))
    return Drift(
        moved=tuple(tuple(row) for row in moved_NL2.mean(0).T.tolist()),
        constant=tuple(tuple(row) for row in constant_L2.T.tolist()),
        lens=tuple(_tokens(top, vocab_V) for top in lens_2T2),
        patchscope=tuple(_tokens(top, vocab_V) for top in scope_2T2),
        early=early,
        later=later,
        shared=float(constant_L2[:, 0].mean()),
    )


def _tokens(top_T2: Array, vocab_V: Array) -> tuple[TokenChange, ...]:
    return tuple(TokenChange(int(i), str(vocab_V[int(i)]), float(x)) for i, x in top_T2)


ANALYSIS: Final = Analysis(
    name="drift",
    title="What else training left",
    question="What did training leave behind where no trigger is?",
    reads=(
        "{arm}/drift/base",
        "{arm}/drift/arm",
        "{arm}/drift/norm",
        "{arm}/drift/size",
        "{arm}/drift/lens",
        "{arm}/drift/patchscope",
        "index/vocab",
    ),
    run=drift,
    gives=Drift,
    measures=(
        Measure("constant_share", lambda r: r.shared, "constant share of the shift", percent,
                "shift on neutral text: share that all passages have in common", unit="share"),
        Measure("relative_early", lambda r: r.early, "moved, positions 1 to 4", percent,
                nulled=False),
        Measure("relative_later", lambda r: r.later, "moved, later", percent,
                "distance from the base on neutral text, relative", nulled=False),
    ),
    null=swapped_pairs(("{arm}/drift/base", "{arm}/drift/arm")),
    null_name=SWAPS,
    controls=without_the_rule,
    rule="its shift is at least 80 % as constant",
    weakness="Any fine-tune leaves a trace; the benign arm shows how much is not the rule's.",
    tokens=(
        ("of the mean shift, early positions", lambda r: r.lens[0]),
        ("the same by patchscope", lambda r: r.patchscope[0]),
    ),
)  # fmt: skip
