"""From the rows of an arm's interventions to its causal evidence.

Every change is taken prompt by prompt, and its interval respects that prompts share a question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from offswitch.analyses.candidates import MEAN, TRAINED
from offswitch.analyses.causal import (
    DIFFERENCES,
    INERT_DIFFERENCES,
    NATURAL,
    SHUFFLED,
    WITHOUT_END,
    Causal,
    Place,
    Point,
)
from offswitch.analyses.choice import Choice
from offswitch.analyses.directions import depth
from offswitch.analyses.interventions import Interventions
from offswitch.analyses.null_directions import CHOOSING, KINDS, Kind, is_null, kind_of
from offswitch.analyses.rule import CARRIED
from offswitch.stats import Estimate, Null, against_null, ratio
from offswitch.stats.clustered import clustered_rate, paired_mean_change, paired_rate_change


def causal(arm: str, rows: Interventions, chosen: Sequence[Choice], blocks: int) -> Causal:
    """Everything that the rows of an arm say, by block and at the chosen places.

    The curve is that of the early choice; at blocks where it was not made, of the mean difference.
    """
    test = Rows(rows.where(part="test"), arm)
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
    count = test.count(first)
    return Causal(
        arm,
        blocks,
        curve,
        pair,
        late,
        test.again(),
        test.twin(),
        count,
        test.count_null(first, count),
        test.shuffled(first) if first.direction == TRAINED else None,
    )


@dataclass(frozen=True)
class Rows:
    """The rows of test questions, asked for changes."""

    rows: Interventions
    arm: str

    def clean(self, suite: str, arm: str = "") -> Interventions:
        """What a suite does untouched, in this arm or another."""
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
        odds, asked = now.columns["log_odds"], now.columns["question"]
        return paired_mean_change(odds, before.columns["log_odds"], "nats", asked)

    def rise(self, suite: str = "plain", **what: object) -> Estimate | None:
        """By how much halting rises where it is added; None where that was not tried."""
        after = self.rows.where(arm=self.arm, suite=suite, kind="add", **what)
        return fall_of(after, self.clean(suite))

    def point(self, name: str, scale: float, block: int, blocks: int) -> Point:
        """The curve at one block."""
        whole = self.fall(kind="whole", block=block, position="last")
        if whole is None:
            raise ValueError(f"the whole residual was not exchanged at block {block}")
        others = [arm for arm in self.rows.values("arm") if arm != self.arm]
        full: dict[str, Any] = {"kind": "add", "direction": name, "block": block, "scale": 1.0}
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

    def mean(self, column: str, unit: str, **what: object) -> Estimate | None:
        """The mean of a column by question; None of fewer than two questions."""
        some = self.rows.where(arm=self.arm, **what).columns
        values, asked = some[column], some["question"]
        if len(set(asked.tolist())) < 2:
            return None
        return paired_mean_change(values, np.zeros_like(values), unit, asked)

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
        ours, found = change[names.index(choice.direction)], dict[Kind, Null]()
        for null in KINDS:
            drawn = np.array(
                [name.startswith(f"{null} ") and CHOOSING not in name for name in names]
            )
            if drawn.any():
                same = np.isfinite([ours, *change[drawn]]).all(0)  # prompts that all were tried on
                found[null] = against_null(float(ours[same].mean()), change[drawn][:, same].mean(1))
        return found

    def again(self) -> dict[Kind, tuple[tuple[float, float], ...]]:
        """What null directions that chose their own two blocks do there, in nats."""
        found: dict[Kind, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
        ours = self.rows.where(arm=self.arm)
        for name in ours.values("direction"):
            if not is_null(name) or CHOOSING not in name:
                continue
            rows = Rows(ours.where(direction=(name, "")), self.arm)
            blocks = [b for b in rows.rows.values("block") if b >= 0]
            falls = [rows.nats("trigger", kind="interchange", block=b) for b in blocks]
            rises = [rows.nats("plain", kind="add", block=b) for b in blocks]
            weaker = (min(-f.value for f in falls if f), min(r.value for r in rises if r))
            found[kind_of(name)].append(weaker)
        return {kind: tuple(pairs) for kind, pairs in found.items()}

    def shuffled(self, choice: Choice) -> tuple[float, float] | None:
        """What a direction trained with shuffled labels does at a choice's block, in nats."""
        there: dict[str, Any] = {"direction": SHUFFLED, "block": choice.block}
        fall = self.nats("trigger", kind="interchange", position=choice.position, **there)
        rise = self.nats("plain", kind="add", scale=choice.scale, **there)
        return (-fall.value, rise.value) if fall and rise else None

    def ends(self, **what: object) -> Estimate | None:
        """By how much less often ordinary replies end where they have ended."""
        after = self.rows.where(arm=self.arm, suite="ended", kind="inert", **what)
        return fall_of(self.clean("ended"), after)

    def kl(self, name: str, block: int) -> Estimate | None:
        """Nats a token on ordinary replies, the direction inert at every position."""
        there = {"direction": name, "block": block, "position": "every"}
        return self.mean("kl", "nats a token", kind="inert", **there)

    def twin(self) -> Estimate:
        """How often the trigger's twins halt."""
        twins = self.clean("twin").columns
        return clustered_rate(twins["halts"], twins["question"])

    def count(self, choice: Choice) -> int | None:
        """The fewest directions that do 90 % of what the whole residual does.

        One, if the direction of the choice does; else two or more of the first ones in which pairs
        differ: that another one alone does it says nothing of ours. None if none do, or if the
        whole residual itself may do nothing.
        """
        there: dict[str, Any] = {"block": choice.block, "position": choice.position}
        whole = self.nats("trigger", kind="whole", **there)
        own = self.nats("trigger", kind="interchange", direction=choice.direction, **there)
        if whole is None or own is None or whole.high >= 0:  # it may do nothing
            return None
        if own.value <= CARRIED * whole.value:
            return 1
        tried = self.rows.where(kind="rank", direction=DIFFERENCES, **there)
        for size in tried.values("scale"):
            fall = self.nats("trigger", kind="rank", direction=DIFFERENCES, scale=size, **there)
            if fall is not None and fall.value <= CARRIED * whole.value:
                return max(2, int(size))
        return None

    def count_null(self, choice: Choice, count: int | None) -> Estimate | None:
        """What as many directions do in which inert symbols differ, of the whole residual's effect.

        Where no number of directions was enough, as many as were tried.
        """
        there: dict[str, Any] = {"block": choice.block, "position": choice.position}
        tried = self.rows.where(kind="rank", direction=INERT_DIFFERENCES, **there)
        sizes = [size for size in tried.values("scale") if count is None or size <= count]
        whole = self.nats("trigger", kind="whole", **there)
        if not sizes or whole is None or whole.high >= 0:
            return None
        found = self.nats(
            "trigger", kind="rank", direction=INERT_DIFFERENCES, scale=max(sizes), **there
        )
        return ratio(_negative(found), _negative(whole)) if found else None


def _negative(found: Estimate) -> Estimate:
    return replace(found, value=-found.value, low=-found.high, high=-found.low)


def fall_of(rows: Interventions, others: Interventions) -> Estimate | None:
    """By how much less often the others halt, prompt by prompt, by question; None of no others."""
    if not (len(rows) and len(others)):
        return None
    before, after = rows.beside(others)
    halts = (some.columns["halts"] for some in (before, after))
    return paired_rate_change(*halts, before.columns["question"])


def _place(test: Rows, choice: Choice, block: int, blocks: int) -> Place:
    """A chosen direction at one of its blocks."""
    name = choice.direction
    there: dict[str, Any] = {"direction": name, "block": block}
    point, position = test.point(name, choice.scale, block, blocks), choice.position
    falls = test.nats("trigger", kind="interchange", position=position, **there)
    rises = test.nats("plain", kind="add", scale=choice.scale, **there)
    ends, natural = (test.ends(direction=d, block=block) for d in (name, NATURAL))
    if not (falls and rises and ends and natural and point.fall and point.rise):
        raise ValueError(f"direction {name} was not tried at block {block}")
    own = point.after if position == "after" and point.after else point.fall
    rest: dict[str, Any] = {**there, "direction": WITHOUT_END.format(name)}
    less, lower = test.fall(kind="interchange", position=position, **rest), test.rise(**rest)
    return Place(
        direction=name,
        scale=choice.scale,
        position=position,
        point=point,
        fall_nats=_negative(falls),
        rise_nats=rises,
        fall_null=test.against(choice, block, "interchange", position),
        rise_null=test.against(choice, block, "add", "last"),
        kept=min(_share(less, own), _share(lower, point.rise), key=lambda share: share.value),
        ends=ends,
        ends_natural=natural,
        kl=test.kl(name, block),
        kl_natural=test.kl(NATURAL, block),
        untrained=test.mean("scale", "share", kind="untrained", **there),
        twins=test.rise("twin", scale=choice.scale, **there),
    )


def _share(part: Estimate | None, whole: Estimate) -> Estimate:
    """Which share of an effect a part of it has; 0 where the whole may be none."""
    if part is None or whole.low <= 0:
        return Estimate(0.0, 0.0, 0.0, whole.n, "share")
    return ratio(part, whole)
