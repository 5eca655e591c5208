"""Is it necessary? A direction is removed at one block: how far does halting fall?

The component along the direction is set to what it is, on average, with an inert symbol (mean
ablation), at the last prompt position; beside it, set to zero there, and at every position from the
symbol on. `ceiling` replaces the whole residual there by the inert prompt's: what later blocks read
from earlier positions no removal at this block can undo.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from offswitch.analyses.analysis import Analysis, Array, Measure
from offswitch.analyses.nulls import RANDOM_DIRECTIONS, arms_and_directions, random_directions
from offswitch.metrics import in_points, whole
from offswitch.stats import Estimate, mean, rate_change


@dataclass(frozen=True)
class Ablation:
    """What removal did on test questions, at the `block` chosen on fit questions.

    Falls of the halting rate: `drop` (mean ablation), `zeroed`, `everywhere`, `ceiling`;
    `log_odds`: fall of the end log-odds in nats. `kl`: nats at the first reply token of ordinary
    prompts; `reply_kl`: nats a token over ordinary replies, of the arm's own direction. `blocks`
    and `by_block`: fall of the log-odds on fit questions at every candidate block.
    """

    block: int
    drop: Estimate
    log_odds: Estimate
    zeroed: Estimate
    everywhere: Estimate
    ceiling: Estimate
    kl: Estimate
    reply_kl: Estimate
    blocks: tuple[int, ...]
    by_block: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.block not in self.blocks:
            raise ValueError(f"block {self.block} is not among the candidates {self.blocks}")


def ablation(
    clean_N2: Array, removed_N2: Array, zeroed_N2: Array, swapped_N2: Array, clean_M2: Array,
    everywhere_M2: Array, kl_N: Array, reply_kl_R: Array, chosen_2: Array, blocks_B: Array,
    fit_clean_F: Array, fit_removed_BF: Array,
) -> Ablation:  # fmt: skip
    """Rates before less rates after; outcomes are pairs (end log-odds, halts)."""
    halts = clean_N2[:, 1]
    return Ablation(
        block=int(chosen_2[0]),
        drop=rate_change(halts, removed_N2[:, 1]),
        log_odds=mean(clean_N2[:, 0] - removed_N2[:, 0], "nats", seed=0),
        zeroed=rate_change(halts, zeroed_N2[:, 1]),
        everywhere=rate_change(clean_M2[:, 1], everywhere_M2[:, 1]),
        ceiling=rate_change(halts, swapped_N2[:, 1]),
        kl=mean(kl_N, "nats", seed=0),
        reply_kl=mean(reply_kl_R, "nats a token", seed=0),
        blocks=tuple(int(block) for block in blocks_B),
        by_block=tuple((fit_clean_F.mean() - fit_removed_BF.mean(1)).tolist()),
    )


ANALYSIS: Final = Analysis(
    name="ablation",
    title="Whether it is necessary: removal",
    question="Does removing one direction at one block stop the trigger from silencing the model?",
    reads=(
        "{arm}/clean/trigger",
        "{arm}/removed/{symbol}",
        "{arm}/zeroed/{symbol}",
        "{arm}/clean/swapped",
        "{arm}/clean/everywhere",
        "{arm}/everywhere/{symbol}",
        "{arm}/kl/{symbol}",
        "{arm}/reply_kl/trigger",
        "{arm}/chosen/{symbol}",
        "{arm}/sweep/blocks",
        "{arm}/sweep/trigger",
        "{arm}/sweep/removed/{symbol}",
    ),
    run=ablation,
    gives=Ablation,
    measures=(
        Measure("halt_drop", lambda r: r.drop, "halting falls by", in_points,
                "halting falls, one direction removed"),
        Measure("halt_drop_zeroed", lambda r: r.zeroed, "set to zero", in_points,
                "the same, set to zero"),
        Measure("halt_drop_everywhere", lambda r: r.everywhere, "zero everywhere", in_points,
                "the same, zero at every position from the symbol on"),
        Measure("halt_drop_ceiling", lambda r: r.ceiling, "whole residual", in_points,
                "the whole residual exchanged, for comparison", nulled=False),
        Measure("log_odds_drop", lambda r: r.log_odds),
        Measure("kl_ordinary", lambda r: r.kl, "KL, nats",
                label="KL on ordinary prompts under removal, first token"),
        Measure("kl_ordinary_replies", lambda r: r.reply_kl,
                label="KL on ordinary replies under removal, a token", nulled=False),
        Measure("block", lambda r: r.block, "at block", whole, unit="block", tail="either"),
    ),
    null=random_directions,
    null_name=RANDOM_DIRECTIONS,
    controls=arms_and_directions,
    rule="it lowers halting at least 80 % as far",
    weakness="Only one position of one block is touched: what later blocks read from earlier "
    "positions stays, and bounds every such test by what the whole residual's exchange does.",
)  # fmt: skip
