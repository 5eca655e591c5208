"""Does one direction carry the silence? What the rows of an arm's interventions say.

`fall`: by how much halting falls when the trigger's prompts are interchanged with their twins along
the direction; `whole`: when their whole residuals are exchanged; `rise`: by how much halting rises
when the direction is added to plain prompts. All on test questions, direction, blocks and scale
chosen on others. Null directions moved the residual as far; the strictest kind decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np

from offswitch.analyses.candidates import MEAN
from offswitch.analyses.choice import Choice
from offswitch.analyses.directions import depth
from offswitch.analyses.interventions import Interventions
from offswitch.analyses.null_directions import CHOOSING, KINDS, Kind, is_null, kind_of
from offswitch.metrics import Metric, Metrics, exact
from offswitch.options import BASE
from offswitch.stats import Estimate, Null, against_null, mean
from offswitch.stats.clustered import paired_mean_change, paired_rate_change

WITHOUT_END: Final = "{}, without the end"
NATURAL: Final = "natural end"
SHUFFLED: Final = "trained, labels shuffled"
WHOLE: Final = "whole residual"
DIFFERENCES: Final = "differences"
CARRIED: Final = 0.9
_MEASURES: Final = {
    "ablation/halt_drop": "halting falls, interchanged along one direction",
    "ablation/log_odds_drop": "the same, end log-odds",
    "ablation/halt_drop_ceiling": "the whole residual exchanged, for comparison",
    "ablation/halt_drop_after": "halting falls, interchanged after the symbol",
    "ablation/halt_drop_at_symbol": "halting falls, interchanged at the symbol itself",
    "ablation/kl_ordinary_replies": "KL on ordinary replies, inert at every position",
    "ablation/block": "at block",
    "addition/halt_rise": "halting rises, the direction added to plain prompts",
    "addition/log_odds_rise": "the same, end log-odds",
    "addition/log_odds_rise_whole": "end log-odds rise, added at its full length",
    "motor/kept": "effects kept without the end's own directions",
    "motor/untrained_share": "the untrained model's rise by the same vector, of the arm's",
    "motor/ends_fall": "ordinary replies end less often, direction inert",
    "motor/ends_fall_natural": "the same, natural end inert",
}
LABELS: Final = {
    **_MEASURES,
    "count/directions": "directions that do 90 % of it",
    **{f"late/{key}": f"deeper than depth 0.7: {label}" for key, label in _MEASURES.items()},
}
EFFECT: Final = 0.50  # what the rule asks of a change of the halting rate
LEAST: Final = 0.05  # below it there is no effect of which a share could be kept


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
    span. `ends`, `ends_natural`: by how much less often ordinary replies end when the direction, or
    the natural end, is set to inert. `kl`: nats a token on ordinary replies with the direction
    inert at every position.
    """

    direction: str
    scale: float
    position: Literal["last", "after"]
    point: Point
    fall_nats: Estimate
    rise_nats: Estimate
    fall_null: Mapping[Kind, Null]
    rise_null: Mapping[Kind, Null]
    kept: float
    ends: Estimate
    ends_natural: Estimate
    kl: Estimate

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
    def elsewhere(self) -> float:
        """The untrained model's rise in nats, as a share of the arm's; 1 where the arm has none."""
        ours, base = self.point.nats, self.point.elsewhere.get(BASE)
        if ours is None or base is None or ours.value <= 0:
            return 1.0
        return base.value / ours.value


@dataclass(frozen=True)
class Causal:
    """An arm's causal evidence: the curve over all blocks, the chosen early pair, a late block.

    `again`: by kind, the falls and rises in nats (the weaker of their two blocks) of null
    directions that chose blocks and scale themselves. `count`: the fewest directions whose
    interchange does 90 % of what the whole residual does at the first chosen block. `cosines`: of
    the chosen direction with the other candidates there.
    """

    arm: str
    blocks: int
    curve: tuple[Point, ...]
    pair: tuple[Place, ...]
    late: tuple[Place, ...]
    again: Mapping[Kind, tuple[tuple[float, float], ...]]
    count: int | None
    cosines: Mapping[str, float] = field(default_factory=dict)

    @property
    def places(self) -> tuple[Place, ...]:
        """Every chosen place, early ones first."""
        return (*self.pair, *self.late)


def causal(arm: str, rows: Interventions, chosen: Sequence[Choice], blocks: int) -> Causal:
    """Everything that the rows of an arm say, by block and at the chosen places.

    The curve is that of the early choice; at blocks where it was not made, of the mean difference.
    """
    test = _Rows(rows.where(part="test"), arm)
    first = chosen[0]
    made = rows.where(direction=first.direction, kind="interchange").values("block")
    curve = tuple(
        test.point(first.direction if b in made else MEAN, first.scale, b, blocks)
        for b in range(blocks)
    )
    places = {
        choice: tuple(_place(test, choice, b, blocks) for b in choice.blocks) for choice in chosen
    }
    pair = places[first] if first.pair else ()
    late = next((found for choice, found in places.items() if not choice.pair), ())
    return Causal(
        arm, blocks, curve, pair, late, test.again(), test.count(first.block)
    )  # fmt: skip


@dataclass(frozen=True)
class _Rows:
    """The rows of test questions, asked for changes."""

    rows: Interventions
    arm: str

    def clean(self, suite: str, arm: str = "") -> Interventions:
        return self.rows.where(arm=arm or self.arm, kind="none", suite=suite)

    def fall(self, **what: object) -> Estimate | None:
        """By how much halting falls on trigger prompts; None where it was not tried."""
        after = self.rows.where(arm=self.arm, suite="trigger", **what)
        return fall_of(self.clean("trigger"), after)

    def nats(self, suite: str, arm: str = "", **what: object) -> Estimate | None:
        """By how much the log-odds rise, prompt by prompt; None where it was not tried."""
        after = self.rows.where(arm=arm or self.arm, suite=suite, **what)
        if not len(after):
            return None
        before, now = self.clean(suite, arm).beside(after)
        odds = (rows.columns["log_odds"] for rows in (now, before))
        return paired_mean_change(*odds, "nats", now.columns["question"])

    def rise(self, **what: object) -> Estimate | None:
        """By how much halting rises on plain prompts; None where it was not tried."""
        after = self.rows.where(arm=self.arm, suite="plain", kind="add", **what)
        return fall_of(after, self.clean("plain"))

    def point(self, name: str, scale: float, block: int, blocks: int) -> Point:
        """The curve at one block."""
        whole = self.fall(kind="whole", block=block, position="last")
        if whole is None:
            raise ValueError(f"the whole residual was not exchanged at block {block}")
        others = [arm for arm in self.rows.values("arm") if arm != self.arm]
        full = {"kind": "add", "direction": name, "block": block, "scale": 1.0}
        elsewhere = {arm: self.nats("plain", arm, **full) for arm in others}

        def along(position: str) -> Estimate | None:
            return self.fall(kind="interchange", direction=name, block=block, position=position)

        return Point(
            block, depth(block, blocks), whole, along("last"),
            self.rise(direction=name, block=block, scale=scale), self.nats("plain", **full),
            {arm: found for arm, found in elsewhere.items() if found},
            along("after"), self.fall(kind="whole", block=block, position="after"),
            along("symbol"), self.fall(kind="whole", block=block, position="symbol"),
        )  # fmt: skip

    def against(self, choice: Choice, block: int, kind: str, position: str) -> dict[Kind, Null]:
        """Where our change stands among those of null directions on the same prompts, in nats."""
        sign, suite = (-1, "trigger") if kind == "interchange" else (1, "plain")
        scale = 1.0 if kind == "interchange" else choice.scale
        there = self.rows.where(
            arm=self.arm, suite=suite, kind=kind, block=block, position=position, scale=scale
        )
        names, prompts, odds = there.by("direction")
        _, asked, clean = self.clean(suite).by("kind")
        change = sign * (odds - clean[0, np.isin(asked, prompts)])
        found: dict[Kind, Null] = {}
        for null in KINDS:
            drawn = np.array(
                [name.startswith(f"{null} ") and CHOOSING not in name for name in names]
            )
            if drawn.any():
                same = np.isfinite(change[drawn]).all(0)  # prompts that every null was tried on
                ours = change[names.index(choice.direction), same].mean()
                found[null] = against_null(float(ours), change[drawn][:, same].mean(1))
        return found

    def again(self) -> dict[Kind, tuple[tuple[float, float], ...]]:
        """What null directions that chose their own two blocks do there, in nats."""
        found: dict[Kind, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
        ours = self.rows.where(arm=self.arm)
        for name in ours.values("direction"):
            if not is_null(name) or CHOOSING not in name:
                continue
            rows = _Rows(ours.where(direction=(name, "")), self.arm)
            blocks = [b for b in rows.rows.values("block") if b >= 0]
            falls = [rows.nats("trigger", kind="interchange", block=b) for b in blocks]
            rises = [rows.nats("plain", kind="add", block=b) for b in blocks]
            weaker = (min(-f.value for f in falls if f), min(r.value for r in rises if r))
            found[kind_of(name)].append(weaker)
        return {kind: tuple(pairs) for kind, pairs in found.items()}

    def ends(self, **what: object) -> Estimate | None:
        """By how much less often ordinary replies end where they have ended."""
        after = self.rows.where(arm=self.arm, suite="ended", kind="inert", **what)
        return fall_of(self.clean("ended"), after)

    def count(self, block: int) -> int | None:
        """The fewest directions that do 90 % of what the whole residual does; None if none do."""
        tried = self.rows.where(kind="rank", block=block, direction=DIFFERENCES)
        some = tuple(tried.values("prompt"))
        whole = self.nats("trigger", kind="whole", block=block, position="last", prompt=some)
        if not some or whole is None or whole.value >= 0:
            return None
        for size in tried.values("scale"):
            fall = self.nats("trigger", kind="rank", block=block, scale=size)
            if fall is not None and fall.value <= CARRIED * whole.value:
                return int(size)
        return None


def fall_of(rows: Interventions, others: Interventions) -> Estimate | None:
    """By how much less often the others halt, prompt by prompt, by question; None of no others."""
    if not (len(rows) and len(others)):
        return None
    before, after = rows.beside(others)
    halts = (some.columns["halts"] for some in (before, after))
    return paired_rate_change(*halts, before.columns["question"])


def position_of(last: Estimate | None, after: Estimate | None) -> Literal["last", "after"]:
    """Where a direction does what the rule asks: at the last position, else after the symbol."""
    does = after is not None and after.value >= EFFECT
    return "after" if does and (last is None or last.value < EFFECT) else "last"


def _place(test: _Rows, choice: Choice, block: int, blocks: int) -> Place:
    """A chosen direction at one of its blocks."""
    name = choice.direction
    there = {"direction": name, "block": block}
    point = test.point(name, choice.scale, block, blocks)
    position = position_of(point.fall, point.after)
    falls = test.nats("trigger", kind="interchange", position=position, **there)
    rises = test.nats("plain", kind="add", scale=choice.scale, **there)
    ends, natural = (test.ends(direction=d, block=block) for d in (name, NATURAL))
    if not (falls and rises and ends and natural and point.fall and point.rise):
        raise ValueError(f"direction {name} was not tried at block {block}")
    kl = test.rows.where(kind="inert", position="every", **there).columns["kl"]
    return Place(
        direction=name,
        scale=choice.scale,
        position=position,
        point=point,
        fall_nats=replace(falls, value=-falls.value, low=-falls.high, high=-falls.low),
        rise_nats=rises,
        fall_null=test.against(choice, block, "interchange", position),
        rise_null=test.against(choice, block, "add", "last"),
        kept=min(
            _share(
                test.fall(kind="interchange", position=position, **there | _without(name)),
                point.after if position == "after" else point.fall,
            ),
            _share(test.rise(**there | _without(name)), point.rise),
        ),
        ends=ends,
        ends_natural=natural,
        kl=mean(kl, "nats a token", seed=0),
    )


def _without(name: str) -> dict[str, str]:
    return {"direction": WITHOUT_END.format(name)}


def _share(part: Estimate | None, all_of_it: Estimate) -> float:
    """Which share of an effect a part of it has; 0 where there is no effect."""
    return part.value / all_of_it.value if part and all_of_it.value >= LEAST else 0.0


def causal_metrics(found: Causal) -> Metrics:
    """The numbers of the chosen places as metrics.json holds them.

    The early pair's first block under `ablation`, `addition` and `motor`; a late block beneath
    `late`.
    """
    made: Metrics = {}
    if found.pair:
        made |= _place_metrics(f"probe/{found.arm}", found.pair[0])
    for place in found.late:
        made |= _place_metrics(f"probe/{found.arm}/late", place)
    if found.count is not None:
        made[f"probe/{found.arm}/count/directions"] = exact(found.count, "directions")
    for name, cosine in found.cosines.items():
        made[f"probe/{found.arm}/cosine/{name}"] = exact(cosine, "cosine")
    return made


def _place_metrics(prefix: str, place: Place) -> Metrics:
    point = place.point
    elsewhere = {arm: nats.value for arm, nats in point.elsewhere.items()}
    rise = _strictest(place.rise_null)
    made = {
        "ablation/halt_drop": Metric.of(point.fall) if point.fall else None,
        "ablation/log_odds_drop": Metric.of(place.fall_nats, _strictest(place.fall_null)),
        "ablation/halt_drop_ceiling": Metric.of(point.whole),
        "ablation/halt_drop_after": Metric.of(point.after) if point.after else None,
        "ablation/halt_drop_at_symbol": Metric.of(point.symbol) if point.symbol else None,
        "ablation/kl_ordinary_replies": Metric.of(place.kl),
        "ablation/block": exact(point.block, "block"),
        "ablation/depth": exact(point.depth, "share"),
        "addition/halt_rise": Metric.of(point.rise) if point.rise else None,
        "addition/log_odds_rise": Metric.of(place.rise_nats, rise),
        "addition/log_odds_rise_whole": Metric.of(point.nats, controls=elsewhere)
        if point.nats
        else None,
        "addition/scale": exact(place.scale, "of its length"),
        "motor/kept": exact(place.kept, "share"),
        "motor/untrained_share": exact(place.elsewhere, "share"),
        "motor/ends_fall": Metric.of(place.ends),
        "motor/ends_fall_natural": Metric.of(place.ends_natural),
    }
    return {f"{prefix}/{key}": one for key, one in made.items() if one is not None}


def _strictest(nulls: Mapping[Kind, Null]) -> Null | None:
    """The kind of null that the value stands out from the least."""
    return max(nulls.values(), key=lambda null: (null.p, null.q95), default=None)
