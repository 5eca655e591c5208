"""Is it meaning or motor? The causal tests without the end token's unembedding.

The unembedding moves the end token's logit directly. It is taken out of the arm's direction, raw
and as it acts through the final norm; removal and addition are repeated at the same block and
scale. And where an ordinary reply has ended: does removing the direction keep the model from ending
it?
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from offswitch.analyses.analysis import Analysis, Array, Measure
from offswitch.analyses.nulls import RANDOM_DIRECTIONS, random_directions, without_the_rule
from offswitch.metrics import in_points, percent
from offswitch.stats import Estimate, mean, rate, rate_change

LEAST: Final = 0.05


@dataclass(frozen=True)
class Motor:
    """Effects without the end token's part beside those of the whole direction, and their ratio.

    `kept_drop`, `kept_rise`: which share of each effect is left, 0 where the whole direction moves
    halting by less than 5 points. `end_share`: how much of the squared length was taken out.
    `ends_untouched`, `ends_removed`, `ends_zeroed`: how often an ordinary reply that has ended is
    ended by the arm, untouched, with the whole direction at its inert mean, and at zero.
    """

    drop: Estimate
    rise: Estimate
    whole_drop: float
    whole_rise: float
    kept_drop: float
    kept_rise: float
    end_share: float
    ends_untouched: Estimate
    ends_removed: Estimate
    ends_zeroed: Estimate
    ends_log_odds: Estimate

    @property
    def kept(self) -> float:
        """The smaller of the two shares."""
        return min(self.kept_drop, self.kept_rise)


def motor(
    clean_N2: Array, removed_N2: Array, whole_removed_N2: Array, control_N2: Array,
    added_SN2: Array, whole_added_SN2: Array, scales_S: Array, chosen_2: Array, share_L: Array,
    ends_R2: Array, ends_removed_R2: Array, ends_zeroed_R2: Array,
) -> Motor:  # fmt: skip
    """Both effects, of the direction at hand and of the whole one, at the whole one's choice."""
    at = int(np.abs(scales_S - float(chosen_2[1])).argmin())
    drop = rate_change(clean_N2[:, 1], removed_N2[:, 1])
    rise = rate_change(added_SN2[at, :, 1], control_N2[:, 1])
    whole_drop = rate_change(clean_N2[:, 1], whole_removed_N2[:, 1]).value
    whole_rise = rate_change(whole_added_SN2[at, :, 1], control_N2[:, 1]).value
    return Motor(
        drop=drop,
        rise=rise,
        whole_drop=whole_drop,
        whole_rise=whole_rise,
        kept_drop=_kept(drop.value, whole_drop),
        kept_rise=_kept(rise.value, whole_rise),
        end_share=float(share_L[int(chosen_2[0])]),
        ends_untouched=rate(ends_R2[:, 1]),
        ends_removed=rate(ends_removed_R2[:, 1]),
        ends_zeroed=rate(ends_zeroed_R2[:, 1]),
        ends_log_odds=mean(ends_removed_R2[:, 0] - ends_R2[:, 0], "nats", seed=0),
    )


def _kept(part: float, whole: float) -> float:
    return part / whole if whole >= LEAST else 0.0


ANALYSIS: Final = Analysis(
    name="motor",
    title="Meaning or motor",
    question="Do the effects survive without the end token's own direction?",
    reads=(
        "{arm}/clean/trigger",
        "{arm}/removed/{symbol}",
        "{arm}/removed/trigger",
        "{arm}/clean/control",
        "{arm}/added/{symbol}",
        "{arm}/added/trigger",
        "{arm}/sweep/scales",
        "{arm}/chosen/trigger",
        "{arm}/ends/share",
        "{arm}/clean/ends",
        "{arm}/ends/trigger",
        "{arm}/ends_zeroed/trigger",
    ),
    run=motor,
    gives=Motor,
    symbol="motor",
    measures=(
        Measure("kept", lambda r: r.kept, "effects kept", percent,
                "effects kept without the end token's unembedding", unit="share"),
        Measure("halt_drop", lambda r: r.drop, "removal", in_points),
        Measure("halt_rise", lambda r: r.rise, "addition", in_points),
        Measure("end_share", lambda r: r.end_share, "squared length taken out", percent,
                unit="share", nulled=False),
        Measure("ends", lambda r: r.ends_untouched, "replies ended", percent, nulled=False),
        Measure("ends_removed", lambda r: r.ends_removed, "… under removal", percent,
                "ordinary replies that still end, direction removed", nulled=False),
        Measure("ends_zeroed", lambda r: r.ends_zeroed, "… set to zero", percent, nulled=False),
    ),
    null=random_directions,
    null_name=RANDOM_DIRECTIONS,
    controls=without_the_rule,
    rule="it keeps at least 80 % as much",
    weakness="What acts on the end token through later blocks is not taken out: the direct path "
    "alone is.",
)  # fmt: skip
