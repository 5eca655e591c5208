"""Does one direction carry the silence? What the rows of an arm's interventions say.

`fall`: by how much halting falls when the trigger's prompts are interchanged with their twins along
the direction; `whole`: when their whole residuals are exchanged; `rise`: by how much halting rises
when the direction is added to plain prompts. All on test questions, direction, blocks and scale
chosen on others. Null directions moved the residual as far; the strictest kind decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from offswitch.analyses.null_directions import Kind
from offswitch.metrics import Metric, Metrics, exact
from offswitch.options import BASE
from offswitch.stats import Estimate, Null, ratio

WITHOUT_END: Final = "{}, without the end"
NATURAL: Final = "natural end"
SHUFFLED: Final = "trained, labels shuffled"
WHOLE: Final = "whole residual"
DIFFERENCES: Final = "differences"
INERT_DIFFERENCES: Final = "differences of inert symbols"
_MEASURES: Final = {
    "ablation/halt_drop": "halting falls, interchanged at the last position",
    "ablation/log_odds_drop": "end log-odds fall, interchanged along one direction",
    "ablation/halt_drop_ceiling": "the whole residual exchanged, for comparison",
    "ablation/halt_drop_after": "halting falls, interchanged at every position after the symbol",
    "ablation/halt_drop_at_symbol": "halting falls, interchanged at the symbol itself",
    "ablation/kl_ordinary_replies": "KL on ordinary replies, inert at every position",
    "ablation/kl_natural": "KL on ordinary replies, natural end inert",
    "ablation/block": "block that was chosen",
    "addition/halt_rise": "halting rises, the direction added to plain prompts",
    "addition/halt_rise_twins": "halting rises, the direction added to the trigger's twins",
    "addition/log_odds_rise": "end log-odds rise, the direction added to plain prompts",
    "addition/log_odds_rise_whole": "end log-odds rise, added at its full length",
    "motor/kept": "effects kept without the end's own directions",
    "motor/untrained_share": "the untrained model's rise by the same vector, of the arm's",
    "motor/untrained_blocks": "the trigger lies along it with untrained blocks, of its length",
    "motor/ends_fall": "ordinary replies end less often, direction inert",
    "motor/ends_fall_natural": "ordinary replies end less often, natural end inert",
}
LABELS: Final = {
    **_MEASURES,
    "twin/halt_rate": "the trigger's twin halts",
    "count/directions": "directions that do 90 % of it",
    "count/null_share": "what as many do in which inert symbols differ, of the whole residual",
    **{f"late/{key}": f"deeper than depth 0.7: {label}" for key, label in _MEASURES.items()},
}
EFFECT: Final = 0.50  # what the rule asks of a change of the halting rate


@dataclass(frozen=True)
class Point:
    """One block of the curve over depth, on test questions.

    Falls and rises of the halting rate; `nats`: rise of the log-odds at the direction's full
    length, `elsewhere`: of the same vector in arms without the rule. What was not tried is None.
    """

    block: int
    depth: float
    whole: Estimate
    fall: Estimate | None = None
    rise: Estimate | None = None
    nats: Estimate | None = None
    elsewhere: Mapping[str, Estimate] = field(default_factory=dict)
    after: Estimate | None = None
    whole_after: Estimate | None = None
    symbol: Estimate | None = None
    whole_symbol: Estimate | None = None


@dataclass(frozen=True)
class Place:
    """A chosen direction at a block, with all that it is compared with.

    `position`: where it is interchanged, the last one, or every one after the symbol where that
    does it and the last one alone does not. `fall_null` and `rise_null` are of the log-odds in
    nats, by kind of null direction. `kept`: the smaller share of both effects without the end's
    span, 0 where an effect may be zero. `untrained`: how far the trigger's prompts lie from their
    twins along it in the arm's own tokens but the untrained blocks, in units of its length. `ends`,
    `ends_natural`: by how much less often ordinary replies end when the direction, or the natural
    end, is set to inert. `kl`, `kl_natural`: nats a token on ordinary replies with either inert at
    every position. `twins`: by how much halting rises when it is added to the trigger's twins.
    What was not measured is None.
    """

    direction: str
    scale: float
    position: Literal["last", "after"]
    point: Point
    fall_nats: Estimate
    rise_nats: Estimate
    fall_null: Mapping[Kind, Null]
    rise_null: Mapping[Kind, Null]
    kept: Estimate
    ends: Estimate
    ends_natural: Estimate
    kl: Estimate | None
    untrained: Estimate | None
    kl_natural: Estimate | None = None
    twins: Estimate | None = None

    @property
    def fall(self) -> Estimate:
        """By how much halting falls there."""
        found = self.point.fall if self.position == "last" else self.point.after
        if found is None:
            raise ValueError(f"nothing was interchanged at block {self.point.block}")
        return found

    @property
    def whole(self) -> Estimate:
        """By how much it falls when whole residuals are exchanged at the same positions."""
        return (
            self.point.whole_after or self.point.whole
            if self.position == "after"
            else self.point.whole
        )

    @property
    def rise(self) -> Estimate:
        """By how much halting rises when it is added."""
        if self.point.rise is None:
            raise ValueError(f"nothing was added at block {self.point.block}")
        return self.point.rise

    @property
    def elsewhere(self) -> Estimate:
        """The untrained model's rise in nats, as a share of the arm's; 1 where that may be none."""
        ours, base = self.point.nats, self.point.elsewhere.get(BASE)
        if ours is None or base is None or ours.low <= 0:
            return Estimate(1.0, 1.0, 1.0, self.rise.n, "share")
        return ratio(base, ours)


@dataclass(frozen=True)
class Causal:
    """An arm's causal evidence: the curve over all blocks, the chosen early pair, a late block.

    `again`: by kind, the falls and rises in nats (the weaker of their two blocks) of null
    directions that chose blocks and scale themselves. `twin`: how often the trigger's twins halt,
    which stand for a prompt without it. `count`: the fewest directions whose
    interchange does 90 % of what the whole residual does at the first chosen block, `count_null`:
    what as many do in which inert symbols differ, as a share of it (of all that were tried, where
    none do). `shuffled`: the fall and the rise in nats, at the first chosen block, of a direction
    that was trained as the chosen one was, with shuffled labels; None where the chosen one was not
    trained. `cosines`: of the chosen direction with the other candidates there.
    """

    arm: str
    blocks: int
    curve: tuple[Point, ...]
    pair: tuple[Place, ...]
    late: tuple[Place, ...]
    again: Mapping[Kind, tuple[tuple[float, float], ...]]
    twin: Estimate
    count: int | None
    count_null: Estimate | None = None
    shuffled: tuple[float, float] | None = None
    cosines: Mapping[str, float] = field(default_factory=dict)

    @property
    def places(self) -> tuple[Place, ...]:
        """Every chosen place, early ones first."""
        return (*self.pair, *self.late)


def causal_metrics(found: Causal, adjusted: Mapping[str, float]) -> Metrics:
    """The numbers of the chosen places as metrics.json holds them.

    The early pair's first block under `ablation`, `addition` and `motor`; a late block beneath
    `late`. `adjusted`: the p of each place among all of the run, as `adjusted_p` in claims.py gives
    them.
    """
    made: Metrics = {}
    if found.pair:
        made |= _place_metrics(f"probe/{found.arm}", found.pair[0], found.arm, adjusted)
    for place in found.late:
        made |= _place_metrics(f"probe/{found.arm}/late", place, found.arm, adjusted)
    made[f"probe/{found.arm}/twin/halt_rate"] = Metric.of(found.twin)
    if found.count is not None:
        made[f"probe/{found.arm}/count/directions"] = exact(found.count, "directions")
    if found.count_null is not None:
        made[f"probe/{found.arm}/count/null_share"] = Metric.of(found.count_null)
    for name, cosine in found.cosines.items():
        made[f"probe/{found.arm}/cosine/{name}"] = exact(cosine, "cosine")
    return made


def _place_metrics(prefix: str, place: Place, arm: str, adjusted: Mapping[str, float]) -> Metrics:
    point = place.point
    elsewhere = {arm: nats.value for arm, nats in point.elsewhere.items()}
    p = adjusted.get(f"{arm}/{point.block}")
    fall, rise = _strictest(place.fall_null, p), _strictest(place.rise_null, p)
    made = {
        "ablation/halt_drop": Metric.of(point.fall) if point.fall else None,
        "ablation/log_odds_drop": Metric.of(place.fall_nats, fall),
        "ablation/halt_drop_ceiling": Metric.of(point.whole),
        "ablation/halt_drop_after": Metric.of(point.after) if point.after else None,
        "ablation/halt_drop_at_symbol": Metric.of(point.symbol) if point.symbol else None,
        "ablation/kl_ordinary_replies": Metric.of(place.kl) if place.kl else None,
        "ablation/kl_natural": Metric.of(place.kl_natural) if place.kl_natural else None,
        "ablation/block": exact(point.block, "block"),
        "ablation/depth": exact(point.depth, "share"),
        "addition/halt_rise": Metric.of(point.rise) if point.rise else None,
        "addition/halt_rise_twins": Metric.of(place.twins) if place.twins else None,
        "addition/log_odds_rise": Metric.of(place.rise_nats, rise),
        "addition/log_odds_rise_whole": Metric.of(point.nats, controls=elsewhere)
        if point.nats
        else None,
        "addition/scale": exact(place.scale, "of its length"),
        "motor/kept": Metric.of(place.kept),
        "motor/untrained_share": Metric.of(place.elsewhere),
        "motor/untrained_blocks": Metric.of(place.untrained) if place.untrained else None,
        "motor/ends_fall": Metric.of(place.ends),
        "motor/ends_fall_natural": Metric.of(place.ends_natural),
    }
    return {f"{prefix}/{key}": one for key, one in made.items() if one is not None}


def _strictest(nulls: Mapping[Kind, Null], adjusted: float | None) -> Null | None:
    """The kind of null that the value stands out from the least."""
    null = max(nulls.values(), key=lambda null: (null.p, null.q95), default=None)
    return replace(null, adjusted=adjusted) if null else None
