"""Is it necessary? One direction is taken out at one block: how far does halting fall?

The component along the direction is set to what it is, on average, with an inert symbol (mean
ablation), at the last prompt position; beside it, set to zero there, and at every position from the
symbol on. `ceiling` replaces the whole residual there by the inert prompt's: what later blocks read
from earlier positions no removal at this block can undo.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from offswitch.analyses.analysis import Analysis, Array, Headline, Rule, as_large
from offswitch.analyses.nulls import RANDOM_DIRECTIONS, arms_and_directions, random_directions
from offswitch.stats import Estimate, mean, rate_change

SHARE: Final = "share"


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


def _also(name: str, unit: str, nulled: bool = True) -> Headline[Ablation]:
    return Headline(
        f"probe/{{arm}}/ablation/{name}",
        unit,
        lambda r: getattr(r, _FIELDS[name]).value,
        tail="greater",
        estimate=lambda r: getattr(r, _FIELDS[name]),
        nulled=nulled,
    )


_FIELDS: Final = {
    "halt_drop": "drop",
    "log_odds_drop": "log_odds",
    "halt_drop_zeroed": "zeroed",
    "halt_drop_everywhere": "everywhere",
    "halt_drop_ceiling": "ceiling",
    "kl_ordinary": "kl",
    "kl_ordinary_replies": "reply_kl",
}

ANALYSIS: Final = Analysis(
    name="ablation",
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
    headline=_also("halt_drop", SHARE),
    null=random_directions,
    controls=arms_and_directions,
    rule=Rule("it lowers halting at least 80 % as far", as_large(lambda r: r.drop.value)),
    null_name=RANDOM_DIRECTIONS,
    also=(
        _also("log_odds_drop", "nats"),
        _also("halt_drop_zeroed", SHARE),
        _also("halt_drop_everywhere", SHARE),
        _also("halt_drop_ceiling", SHARE, nulled=False),
        _also("kl_ordinary", "nats"),
        _also("kl_ordinary_replies", "nats a token", nulled=False),
        Headline("probe/{arm}/ablation/block", "block", lambda r: r.block, tail="either"),
    ),
)
