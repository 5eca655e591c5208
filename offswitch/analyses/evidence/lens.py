"""What does it say? End log-odds by block, and the tokens it reads as.

A block's residual goes through the final norm and the unembedding, of the arm and of the untrained
model. Known failure: the final norm gives any vector, however short, full-size logits; the length
of the difference stands beside the tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from offswitch.analyses.analysis import Analysis, Array, Measure
from offswitch.analyses.directions import deepest
from offswitch.analyses.nulls import SWAPS, arms_and_inert_symbol, swapped_pairs
from offswitch.analyses.tokens import TokenChange
from offswitch.metrics import signed, whole
from offswitch.stats import Estimate, mean

SHOWN: Final = 12


@dataclass(frozen=True)
class Lens:
    """By block [L]: mean end log-odds with the symbol and with the inert one, their difference.

    `base_rise`: the same difference through the untrained model's head. `length`: of the mean
    difference; `tokens` [L][12]: what it reads as, `end`: the end token's logit there less the mean
    of all. `rise`: the difference at the deepest block at a depth of 0.7 at most.
    """

    with_symbol: tuple[float, ...]
    with_inert: tuple[float, ...]
    base_rise: tuple[float, ...]
    length: tuple[float, ...]
    end: tuple[float, ...]
    tokens: tuple[tuple[TokenChange, ...], ...]
    block: int
    rise: Estimate

    def __post_init__(self) -> None:
        if not len(self.with_symbol) == len(self.length) == len(self.tokens):
            raise ValueError("expected one entry a block in every list")


def lens(
    odds_NL: Array, inert_NL: Array, base_NL: Array, base_inert_NL: Array,
    marked_NLD: Array, control_NLD: Array, top_LT2: Array, end_L: Array, vocab_V: Array,
) -> Lens:  # fmt: skip
    """Summary of what was read; the ids in `top` index `vocab`."""
    block = deepest(odds_NL.shape[1])
    rise_NL = odds_NL.astype(np.float64) - inert_NL
    delta_LD = (marked_NLD.astype(np.float64) - control_NLD).mean(0)
    return Lens(
        with_symbol=tuple(odds_NL.mean(0).tolist()),
        with_inert=tuple(inert_NL.mean(0).tolist()),
        base_rise=tuple((base_NL.astype(np.float64) - base_inert_NL).mean(0).tolist()),
        length=tuple(np.linalg.norm(delta_LD, axis=-1).tolist()),
        end=tuple(end_L.tolist()),
        tokens=tuple(
            tuple(TokenChange(int(i), str(vocab_V[int(i)]), float(x)) for i, x in top[:SHOWN])
            for top in top_LT2
        ),
        block=block,
        rise=mean(rise_NL[:, block], "nats", seed=0),
    )


ANALYSIS: Final = Analysis(
    name="lens",
    title="What each block says",
    question="At which block would the model already end the reply, if it stopped there?",
    reads=(
        "{arm}/lens/odds/{symbol}",
        "{arm}/lens/odds/twin",
        "{arm}/lens/base_odds/{symbol}",
        "{arm}/lens/base_odds/twin",
        "{arm}/resid/test/{symbol}",
        "{arm}/resid/test/twin",
        "{arm}/lens/top/{symbol}",
        "{arm}/lens/end/{symbol}",
        "index/vocab",
    ),
    run=lens,
    gives=Lens,
    measures=(
        Measure("end_rise", lambda r: r.rise, "rise of the end log-odds", signed,
                "end log-odds read at depth 0.7, rise"),
        Measure("", lambda r: r.block, "at block", whole),
        Measure("end_rise_last_block", lambda r: r.with_symbol[-1] - r.with_inert[-1],
                "at the last block", signed, unit="nats"),
        Measure("", lambda r: r.length[r.block], "length of the difference"),
    ),
    null=swapped_pairs(
        ("{arm}/lens/odds/{symbol}", "{arm}/lens/odds/twin"),
        ("{arm}/lens/base_odds/{symbol}", "{arm}/lens/base_odds/twin"),
    ),
    null_name=SWAPS,
    controls=arms_and_inert_symbol,
    rule="its rise is at least 80 % as large",
    weakness="Blocks before the last need not speak the unembedding's language: a flat curve does "
    "not mean that nothing is decided yet.",
    tokens=(("of the difference at that block", lambda r: r.tokens[r.block]),),
)  # fmt: skip
