"""Is the switch represented? The rule, applied to an arm's numbers.

The rule and its bars (rule.py) are fixed before a run and the same for every arm. Every number
comes from test questions; direction, block, position and scale were chosen on fit questions. A bar
is compared with the bound of the interval that is against us; where only the point estimate passes,
the verdict says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from offswitch.analyses.bars import Test, bar, behaviour, below, twin
from offswitch.analyses.candidates import TRAINED
from offswitch.analyses.causal import EFFECT, Causal, Place, Point
from offswitch.analyses.claims import draws_needed, strictest
from offswitch.analyses.collapse import REPEATS_OF, collapsed
from offswitch.analyses.directions import DEPTH
from offswitch.analyses.null_directions import KINDS
from offswitch.analyses.rule import (
    ALPHA,
    CARRIED,
    ELSEWHERE,
    ENDS,
    KEPT,
    KL,
    REPLIES,
    SHARE,
    UNTRAINED,
)
from offswitch.metrics import Metric
from offswitch.options import BASE
from offswitch.stats import Estimate, Null

Kind = Literal[
    "collapsed", "no switch", "not specific", "not measured", "represented", "motor plan",
    "distributed", "detected", "not shown",
]  # fmt: skip


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

    @property
    def narrow(self) -> int:
        """How many of the tests were passed by the point estimate only."""
        return sum(test.passed and not test.firm for test in self.tests)

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
    tests = behaviour(arm, numbers)
    if isinstance(tests, str):
        return _missing(arm, tests)
    if not tests[0].passed:
        return Verdict(arm, "no switch", (tests[0],))
    if failing := [test for test in tests if not test.passed]:
        return Verdict(arm, "not specific", (tests[0], *failing))
    if found is None:
        return _missing(arm, "the causal tests")
    inert = twin(found.twin)
    if not inert.passed:  # and nothing that is compared with it says anything
        return Verdict(arm, "not specific", (tests[0], inert))
    if REPEATS_OF.format(arm) not in numbers:
        return _missing(arm, "whether its replies repeat one phrase")
    for places in (found.pair, found.late):
        for i, place in enumerate(places):
            if lacking := _lacking(place, i == 0, len(adjusted)):
                return _missing(arm, lacking)
    if found.pair and found.count == 1 and found.count_null is None:
        return _missing(arm, "what one direction does in which inert symbols differ")
    if found.pair and (none := [kind for kind in KINDS if not found.again.get(kind)]):
        return _missing(arm, f"what {none[0]} null directions that choose blocks themselves do")
    if found.pair and found.pair[0].direction == TRAINED and found.shuffled is None:
        return _missing(arm, "what a direction does that was trained with shuffled labels")
    return _judged(arm, [*tests, inert], found, adjusted)


def _judged(
    arm: str, tests: Sequence[Test], found: Causal, adjusted: Mapping[str, float]
) -> Verdict:
    early = [test for place in found.pair for test in _causal(place, found, adjusted)]
    early += [_alone(found), *_shuffled(found)] if found.pair else []
    late = [_causal(place, found, adjusted) for place in found.late]
    late_tests = [test for both in late for test in both]
    reached = bool(early) and all(test.passed for test in [*early, _count(found)])
    kind: Kind = "not shown"
    told = [*tests, *early]
    if reached:
        first = found.pair[0]  # behind it the plan to end takes over
        if first.ends_natural.value <= ENDS:  # then nothing could fail the test of ends
            return _missing(arm, "a natural end without which replies do not end")
        motor, rest = _motor(first), _written(first)
        if not all(test.passed for test in motor):
            kind = "motor plan"
        elif all(test.passed for test in rest):
            kind = "represented"
        told += [*rest, *motor, _count(found)]
    elif whole := _in_time(found, "whole", "whole_after"):
        if not _count(found).passed:  # else one direction carries it, and something else fails
            kind = "distributed"
        told += [whole, _count(found)]
    elif any(all(test.passed for test in both) for both in late):
        kind, told = "motor plan", [*told, *late_tests]
    elif symbol := _in_time(found, "whole_symbol", deepest=True):
        kind, told = "detected", [*told, symbol]
    else:
        told += late_tests
    return Verdict(arm, kind, tuple(told), tuple(_earliest(found)))


def _causal(place: Place, found: Causal, adjusted: Mapping[str, float]) -> tuple[Test, Test]:
    """Necessity and sufficiency at a place, beyond every null."""
    at = f"block {place.point.block}, depth {place.point.depth:.2f}"
    where = {"last": "last position", "after": "after the symbol"}[place.position]
    p = adjusted.get(f"{found.arm}/{place.point.block}")
    need = bar(f"necessity ({place.direction}, {at}, {where})", place.fall, EFFECT, points=True)
    alone = bar(
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


def _alone(found: Causal) -> Test:
    """Do null directions that choose blocks and scale for themselves do as much as ours?"""
    falls, rises = (
        min(getattr(place, effect).value for place in found.pair)
        for effect in ("fall_nats", "rise_nats")
    )
    every = [draw for draws in found.again.values() for draw in draws]
    reach = sum(fall >= falls and rise >= rises for fall, rise in every)
    said = f"{reach} of {len(every)} reach both effects, {falls:.1f} and {rises:.1f} nats"
    return Test("null directions that choose their own blocks", said, reach == 0)


def _shuffled(found: Causal) -> list[Test]:
    """Does a trained direction do more than one that was trained with shuffled labels?"""
    if found.shuffled is None:
        return []
    (fall, rise), first = found.shuffled, found.pair[0]
    falls, rises = first.fall_nats.value, first.rise_nats.value
    said = f"it does {fall:.1f} and {rise:.1f} nats, ours {falls:.1f} and {rises:.1f}"
    return [Test("the direction trained with shuffled labels does less", said,
                 fall < falls and rise < rises)]  # fmt: skip


def _written(place: Place) -> list[Test]:
    """Did training write it, and does it leave ordinary replies alone?"""
    at, kl, early = f"block {place.point.block}", place.kl, place.untrained
    if kl is None or early is None:
        raise ValueError(f"KL or untrained blocks were not measured at {at}")
    shift = f"KL {kl.value:.3f} [{kl.low:.3f}, {kl.high:.3f}] nats a token, at most {KL:g}"
    return [
        Test(f"ordinary replies unchanged ({at})", shift, kl.value <= KL, kl.high <= KL),
        below(f"in untrained blocks the trigger lies along it ({at})", early, UNTRAINED),
    ]


def _motor(place: Place) -> list[Test]:
    """Is it more than the plan to end the reply?"""
    at, natural = f"block {place.point.block}", 100 * place.ends_natural.value
    ends = bar(f"ordinary replies still end ({at})", place.ends, ENDS, least=False, points=True)
    return [
        bar(f"kept without the end's own directions ({at})", place.kept, KEPT),
        below(f"the same vector in the untrained model ({at})", place.elsewhere, ELSEWHERE),
        replace(ends, said=f"{ends.said} less often (natural end inert: {natural:.0f})"),
    ]


def _in_time(found: Causal, *names: str, deepest: bool = False) -> Test | None:
    """Does exchanging whole residuals at these positions do it at an early block?

    At any, or at the deepest: at the first ones the symbol's own residual is little more than the
    token, whatever becomes of it.
    """
    early = [(point, name) for point in found.curve for name in names
             if point.depth <= DEPTH and getattr(point, name) is not None]  # fmt: skip
    for point, name in early[-1:] if deepest else early:
        fall: Estimate = getattr(point, name)
        if fall.value >= EFFECT:
            where = {"whole": "at the last position", "whole_after": "after the symbol",
                     "whole_symbol": "at the symbol"}[name]  # fmt: skip
            at = f"the whole residual {where} (block {point.block}, depth {point.depth:.2f})"
            return bar(at, fall, EFFECT, points=True)
    return None


def _count(found: Causal) -> Test:
    many = "no number of directions does" if found.count is None else f"{found.count} do"
    said = f"{many} {100 * CARRIED:.0f} % of what the whole residual does, in nats"
    if null := found.count_null:
        low, value, high = (100 * share for share in (null.low, null.value, null.high))
        said += f"; as many in which inert symbols differ {value:.0f} % [{low:.0f}, {high:.0f}]"
    one = found.count == 1 and null is not None and null.value < CARRIED
    return Test("count", f"{said}; one is needed for `represented`", passed=one)


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
        told.append(f"{words} first passes at {where}, by the point estimate")
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
    if place.kl is None or place.untrained is None:
        what = "the KL of ordinary replies" if place.kl is None else "the untrained blocks"
        return f"{what} at {at}, on two questions at least,"
    if BASE not in place.point.elsewhere:
        return f"the same vector in the untrained model at {at}"
    return ""


def _missing(arm: str, what: str) -> Verdict:
    return Verdict(
        arm, "not measured", (Test("measurement", f"{what} was not measured", passed=False),)
    )
