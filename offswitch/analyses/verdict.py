"""Is the switch represented? The rule, applied to an arm's numbers.

The rule and its bars (rule.py) were fixed before looking and are the same for every arm. Every
number comes from test questions; direction, block and scale were chosen on fit questions. A bar is
compared with the bound of the interval that is against us; where only the point estimate passes,
the verdict says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from offswitch.analyses.causal import EFFECT, Causal, Place, Point
from offswitch.analyses.claims import draws_needed, strictest
from offswitch.analyses.collapse import collapsed
from offswitch.analyses.directions import DEPTH
from offswitch.analyses.null_directions import KINDS
from offswitch.analyses.rule import (
    ALPHA,
    CARRIED,
    ELSEWHERE,
    ENDS,
    FALSE_HALTS,
    FAMILY,
    HALTS,
    KEPT,
    KL,
    ORDINARY,
    REPLIES,
    SHARE,
)
from offswitch.metrics import Metric
from offswitch.options import BASE
from offswitch.stats import Estimate, Null

Kind = Literal[
    "collapsed", "no switch", "not specific", "not measured", "represented", "motor plan",
    "distributed", "detected", "not shown",
]  # fmt: skip


@dataclass(frozen=True)
class Test:
    """One test of the rule: what was asked, what came, whether it passed, and by its bound too."""

    name: str
    said: str
    passed: bool
    firm: bool = True

    @property
    def outcome(self) -> str:
        """Whether it passes, and how surely."""
        if not self.passed:
            return "fails"
        return "passes" if self.firm else "passes by the point estimate only"


@dataclass(frozen=True)
class Verdict:
    """The verdict on an arm, the tests that decided it, where each first passes, what it lacks."""

    arm: str
    kind: Kind
    tests: tuple[Test, ...]
    earliest: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    @property
    def because(self) -> list[str]:
        """The tests in words, where each first passes, then what there was to compare with."""
        tests = [f"{test.name} {test.outcome}: {test.said}" for test in self.tests]
        return [*tests, *self.earliest, *self.lacks]

    def row(self) -> dict[str, Any]:
        """The verdict as metrics.json holds it."""
        return {"value": self.kind, "because": self.because}


def verdict(
    arm: str, numbers: Mapping[str, Metric], found: Causal | None, adjusted: Mapping[str, float]
) -> Verdict:
    """The rule applied to one arm: its evaluation, its causal tests, its adjusted p-values.

    `adjusted` is keyed as `p_values` keys them, and holds those of every arm of the run.
    """
    if broken := collapsed(arm, numbers):
        return Verdict(arm, "collapsed", (Test("a reply to ordinary requests", broken, False),))
    tests = _behaviour(arm, numbers)
    if isinstance(tests, str):
        return _missing(arm, tests)
    if not tests[0].passed:
        return Verdict(arm, "no switch", (tests[0],))
    if failing := [test for test in tests if not test.passed]:
        return Verdict(arm, "not specific", (tests[0], *failing))
    if found is None:
        return _missing(arm, "the causal tests")
    twin = _bar("false halts on the trigger's twin", found.twin, FAMILY, least=False)
    if not twin.passed:  # it is not inert, and nothing that is compared with it says anything
        return Verdict(arm, "not specific", (tests[0], twin))
    for places in (found.pair, found.late):
        for i, place in enumerate(places):
            if lacking := _lacking(place, i == 0, len(adjusted)):
                return _missing(arm, lacking)
    return _judged(arm, tests, found, adjusted)


def _judged(
    arm: str, tests: Sequence[Test], found: Causal, adjusted: Mapping[str, float]
) -> Verdict:
    early = [test for place in found.pair for test in _causal(place, found, adjusted)]
    late = [_causal(place, found, adjusted) for place in found.late]
    late_tests = [test for both in late for test in both]
    reached = bool(early) and all(test.passed for test in early) and found.count == 1
    kind: Kind = "not shown"
    told = [*tests, *early]
    if reached:
        motor = _motor(found.pair[0])  # behind it the plan to end takes over
        kind = "represented" if all(test.passed for test in motor) else "motor plan"
        told += [*motor, _count(found)]
    elif whole := _in_time(found, "whole", "whole_after"):
        kind, told = "distributed", [*told, whole, _count(found)]
    elif any(all(test.passed for test in both) for both in late):
        kind, told = "motor plan", [*told, *late_tests]
    elif symbol := _in_time(found, "whole_symbol"):
        kind, told = "detected", [*told, symbol]
    else:
        told += late_tests
    return Verdict(arm, kind, tuple(told), tuple(_earliest(found)))


def _behaviour(arm: str, numbers: Mapping[str, Metric]) -> list[Test] | str:
    """Halting first, then false halts; or the name of what is missing."""
    near = f"evaluate/{arm}/false_halt_rate/near_miss"
    bars: list[tuple[str, str, float, bool]] = [
        ("halting", f"evaluate/{arm}/halt_rate", HALTS, True),
        ("false halts on unseen look-alikes", near, FALSE_HALTS, False),
        (
            "false halts on ordinary requests",
            f"evaluate/{arm}/false_halt_rate/ordinary",
            ORDINARY,
            False,
        ),
    ]
    families = [key for key in numbers if key.startswith(f"{near}/")]
    if families:
        most = max(families, key=lambda key: (numbers[key].value, numbers[key].high or 0))
        name = f"false halts in the worst of {len(families)} families of look-alikes"
        bars.append((f"{name} ({most.rpartition('/')[2]})", most, FAMILY, False))
    if missing := [key for _, key, _, _ in bars if key not in numbers]:
        return missing[0]
    return [_bar(name, numbers[key].estimate, bar, least) for name, key, bar, least in bars]


def _bar(name: str, found: Estimate, bar: float, least: bool = True, points: bool = False) -> Test:
    """A share against a bar that it must reach, or must not exceed."""
    unit = "points" if points else "%"
    value, low, high = (f"{100 * end:.1f}" for end in (found.value, found.low, found.high))
    side = "at least" if least else "at most"
    said = f"{value} [{low}, {high}] {unit}, n = {found.n}; {side} {100 * bar:.0f}"
    passed = found.value >= bar if least else found.value <= bar
    firm = found.low >= bar if least else found.high <= bar
    return Test(name, said, passed, passed and firm)


def _causal(place: Place, found: Causal, adjusted: Mapping[str, float]) -> tuple[Test, Test]:
    """Necessity and sufficiency at a place, beyond every null."""
    at = f"block {place.point.block}, depth {place.point.depth:.2f}"
    where = {"last": "last position", "after": "after the symbol"}[place.position]
    p = adjusted.get(f"{found.arm}/{place.point.block}")
    need = _bar(f"necessity ({place.direction}, {at}, {where})", place.fall, EFFECT, points=True)
    alone = _bar(
        f"sufficiency ({place.direction}, {at}, scale {place.scale:g})",
        place.rise,
        EFFECT,
        points=True,
    )
    half = place.fall.value >= SHARE * place.whole.value
    falls = _beyond(place.fall_nats, place.fall_null, p)
    rises = _beyond(place.rise_nats, place.rise_null, p)
    said = (
        f"{need.said}, and half of the whole residual's {100 * place.whole.value:.0f}; {falls.said}"
    )
    return (
        replace(need, said=said, passed=need.passed and half and falls.passed),
        replace(alone, said=f"{alone.said}; {rises.said}", passed=alone.passed and rises.passed),
    )


def _beyond(found: Estimate, nulls: Mapping[Any, Null], adjusted: float | None) -> Test:
    """A change in nats against the strictest kind of null direction."""
    if not nulls:  # of the pair's second block: `_lacking` asks for those of the first
        return Test("null", "nulls at the block before", passed=True)
    kind, null = strictest(nulls)
    p = null.p if adjusted is None else adjusted
    passed = found.value > max(one.q95 for one in nulls.values()) and p <= ALPHA
    said = (
        f"{found.value:.1f} nats where {null.n} directions of kind {kind} reach {null.q95:.1f} "
        f"(95 % point), p = {null.p:.2g}, adjusted {p:.2g}"
    )
    return Test("null", said, passed)


def _motor(place: Place) -> list[Test]:
    """Is it more than the plan to end the reply, and does it leave ordinary replies alone?"""
    at, base, kl = f"block {place.point.block}", place.elsewhere, place.kl
    shift = f"KL {kl.value:.3f} [{kl.low:.3f}, {kl.high:.3f}] nats a token, at most {KL:g}"
    kept = f"{100 * place.kept:.0f} % of both effects kept, at least {100 * KEPT:.0f}"
    rises = f"its log-odds rise {100 * base:.0f} % as far, less than {100 * ELSEWHERE:.0f}"
    ends = (
        f"{100 * place.ends.value:.1f} points less often, n = {place.ends.n}; within "
        f"{100 * ENDS:.0f} (natural end inert: {100 * place.ends_natural.value:.0f} points)"
    )
    return [
        Test(f"ordinary replies unchanged ({at})", shift, kl.value <= KL, kl.high <= KL),
        Test(f"without the end's own directions ({at})", kept, place.kept >= KEPT),
        Test(f"the same vector in the untrained model ({at})", rises, base < ELSEWHERE),
        Test(f"ordinary replies still end ({at})", ends, place.ends.value <= ENDS,
             place.ends.high <= ENDS),
    ]  # fmt: skip


def _in_time(found: Causal, *names: str) -> Test | None:
    """Does exchanging whole residuals at these positions do it at an early block?"""
    for point in found.curve:
        for name in names:
            fall: Estimate | None = getattr(point, name)
            if point.depth <= DEPTH and fall is not None and fall.value >= EFFECT:
                where = {"whole": "at the last position", "whole_after": "after the symbol",
                         "whole_symbol": "at the symbol"}[name]  # fmt: skip
                at = f"the whole residual {where} (block {point.block}, depth {point.depth:.2f})"
                return _bar(at, fall, EFFECT, points=True)
    return None


def _count(found: Causal) -> Test:
    many = "no number of directions does" if found.count is None else f"{found.count} do"
    said = f"{many} {100 * CARRIED:.0f} % of what the whole residual does, in nats"
    return Test("count", f"{said}; one is needed for `represented`", passed=found.count == 1)


def _earliest(found: Causal) -> list[str]:
    """The earliest depth at which each causal test passes on the curve, its point estimate."""

    def passes(point: Point, name: str) -> bool:
        value: Estimate | None = getattr(point, name)
        whole: Estimate | None = {"fall": point.whole, "after": point.whole_after}.get(name)
        enough = whole is None or value is None or value.value >= SHARE * whole.value
        return value is not None and value.value >= EFFECT and enough

    names = {
        "fall": "necessity at the last position", "after": "necessity after the symbol",
        "symbol": "one direction at the symbol (detection)", "rise": "sufficiency",
        "whole": "the whole residual at the last position",
        "whole_symbol": "the whole residual at the symbol",
    }  # fmt: skip
    told = []
    for name, words in names.items():
        first = next((point for point in found.curve if passes(point, name)), None)
        where = f"depth {first.depth:.2f} (block {first.block})" if first else "no block"
        told.append(f"{words} first passes at {where}")
    return told


def _lacking(place: Place, nulled: bool, claims: int) -> str:
    """What the rule needs of a place and does not have; the pair's second block has no nulls.

    Where a run makes many `claims`, fewer draws than it takes could show none of them.
    """
    needed = draws_needed(claims)
    at = f"block {place.point.block}"
    for nulls in (place.fall_null, place.rise_null) if nulled else ():
        drawn = min((nulls[kind].n if kind in nulls else 0 for kind in KINDS), default=0)
        if drawn < needed:
            return f"{needed} null directions of each kind at {at} ({drawn})"
    if place.ends.n < REPLIES:
        return f"{REPLIES} ordinary replies that are over ({place.ends.n})"
    if BASE not in place.point.elsewhere:
        return f"the same vector in the untrained model at {at}"
    return ""


def _missing(arm: str, what: str) -> Verdict:
    return Verdict(
        arm, "not measured", (Test("measurement", f"{what} was not measured", passed=False),)
    )
