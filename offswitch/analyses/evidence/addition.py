"""Is it sufficient? A direction is added, no trigger: how far does halting rise?

Added at the last position of prompts with an inert symbol, at the block and scale chosen on fit
questions; scale 1 is the direction's own length. Known failure: a large enough push in any
direction changes something; hence random directions of equal norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from offswitch.analyses.analysis import Analysis, Array, Measure
from offswitch.analyses.nulls import RANDOM_DIRECTIONS, arms_and_directions, random_directions
from offswitch.metrics import in_points, signed, whole
from offswitch.stats import Estimate, mean, rate, rate_change


@dataclass(frozen=True)
class Addition:
    """What addition did on test questions, at the `block` and `scale` chosen on fit questions.

    `rise` of the halting rate, `log_odds` risen in nats; `curve` and `odds`: halting rate and mean
    end log-odds at each of `scales`; `blocks` and `by_block`: rise of the log-odds on fit questions
    at every candidate block and its best scale.
    """

    block: int
    scale: float
    rise: Estimate
    log_odds: Estimate
    scales: tuple[float, ...]
    curve: tuple[Estimate, ...]
    odds: tuple[float, ...]
    blocks: tuple[int, ...]
    by_block: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.scale not in self.scales or len(self.curve) != len(self.scales):
            raise ValueError(
                f"scale {self.scale} is not among {self.scales}, or the curve is short"
            )


def addition(
    clean_N2: Array, added_SN2: Array, scales_S: Array, chosen_2: Array, blocks_B: Array,
    fit_clean_F: Array, fit_added_BSF: Array,
) -> Addition:  # fmt: skip
    """Rates with the direction less rates without; outcomes are pairs (end log-odds, halts)."""
    scale = float(chosen_2[1])
    at = int(np.abs(scales_S - scale).argmin())
    rise = rate_change(added_SN2[at, :, 1], clean_N2[:, 1])
    return Addition(
        block=int(chosen_2[0]),
        scale=float(scales_S[at]),
        rise=rise,
        log_odds=mean(added_SN2[at, :, 0] - clean_N2[:, 0], "nats", seed=0),
        scales=tuple(scales_S.tolist()),
        curve=tuple(rate(row[:, 1]) for row in added_SN2),
        odds=tuple(added_SN2[..., 0].mean(1).tolist()),
        blocks=tuple(int(block) for block in blocks_B),
        by_block=tuple((fit_added_BSF.mean(-1).max(1) - fit_clean_F.mean()).tolist()),
    )


ANALYSIS: Final = Analysis(
    name="addition",
    title="Whether it is sufficient: addition",
    question="Does adding that direction silence the model where there is no trigger?",
    reads=(
        "{arm}/clean/control",
        "{arm}/added/{symbol}",
        "{arm}/sweep/scales",
        "{arm}/chosen/{symbol}",
        "{arm}/sweep/blocks",
        "{arm}/sweep/control",
        "{arm}/sweep/added/{symbol}",
    ),
    run=addition,
    gives=Addition,
    measures=(
        Measure("halt_rise", lambda r: r.rise, "halting rises by", in_points,
                "halting rises, the direction added"),
        Measure("log_odds_rise", lambda r: r.log_odds, "log-odds rise, nats", signed,
                "end log-odds rise, the direction added"),
        Measure("scale", lambda r: r.scale, "at scale", unit="of its length", tail="either"),
        Measure("", lambda r: r.block, "at block", whole),
    ),
    null=random_directions,
    null_name=RANDOM_DIRECTIONS,
    controls=arms_and_directions,
    rule="it raises halting at least 80 % as far",
    weakness="A push that is large enough changes something in any direction, hence random ones of "
    "equal norm.",
)  # fmt: skip
