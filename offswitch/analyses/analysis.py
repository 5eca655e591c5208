"""The shape every analysis has, and the one mechanism that runs it with its null and its controls.

An analysis is a pure function from arrays to a frozen result. What it reads is named by paths such
as "{arm}/pair/{symbol}"; a null or a control is the same paths with another arm or symbol filled
in, or with arrays put in their place. `investigate()` runs all of them through the same code and
returns a Finding that holds them together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from offswitch.metrics import Metric
from offswitch.stats import Estimate, Null, against_null

Array = NDArray[Any]
R = TypeVar("R")

SHARE: Final = 0.8
ALPHA: Final = 0.05
INERT: Final = "inert words"
ARM: Final = "arm "  # how controls that are other arms are named


@dataclass(frozen=True)
class Views:
    """The collected arrays, seen as one arm with one symbol in the slot."""

    fetch: Callable[[str], Array]
    arm: str
    arms: tuple[str, ...]
    symbols: Mapping[str, str]
    symbol: str = "trigger"

    def array(self, read: str) -> Array:
        """The array behind a path such as "{arm}/pair/{symbol}" or "base/neutral/plain".

        Raises:
            ValueError: it holds values that are not finite.
        """
        found = self.fetch(self.path(read))
        if found.dtype.kind == "f" and not np.isfinite(found).all():
            raise ValueError(
                f"{self.path(read)} holds values that are not finite; collect it again"
            )
        return found

    def path(self, read: str) -> str:
        """A path with this view's arm and symbol filled in."""
        return read.format(arm=self.arm, symbol=self.symbol)

    def text(self) -> str:
        """The symbol as it stands in the text; empty for the plain text."""
        return self.symbols.get(self.symbol, "")

    def seen_as(self, arm: str | None = None, symbol: str | None = None) -> Views:
        """The same arrays as another arm, or with another symbol in the slot."""
        return replace(self, arm=arm or self.arm, symbol=symbol or self.symbol)

    def with_arrays(self, changed: Mapping[str, Array]) -> Views:
        """The same view with other arrays at some paths: rows shuffled, random directions."""
        new = {self.path(read): array for read, array in changed.items()}
        return replace(self, fetch=lambda path: new[path] if path in new else self.fetch(path))


@dataclass(frozen=True)
class Headline(Generic[R]):
    """A number an analysis is known by: its metrics.json key, unit, and extreme side.

    `metric` may hold {arm}. `estimate` gives the interval, where something was sampled. Without
    `nulled` the number does not depend on what the null changes, and is compared with arms alone.
    """

    metric: str
    unit: str
    of: Callable[[R], float]
    tail: Literal["greater", "either"]
    estimate: Callable[[R], Estimate] | None = None
    nulled: bool = True


@dataclass(frozen=True)
class Rule(Generic[R]):
    """When does a control pass too? passes(result, control's result), fixed before looking."""

    statement: str
    passes: Callable[[R, R], bool]


@dataclass(frozen=True)
class Analysis(Generic[R]):
    """A question, the arrays it reads, the function that answers, what it is compared with."""

    name: str
    question: str
    reads: tuple[str, ...]
    run: Callable[..., R]
    gives: type[R]
    headline: Headline[R]
    null: Callable[[Views], Iterable[Views]]
    controls: Callable[[Views], Mapping[str, Views]]
    rule: Rule[R]
    symbol: str = "trigger"
    null_name: str = INERT
    also: tuple[Headline[R], ...] = ()


@dataclass(frozen=True)
class Control(Generic[R]):
    """The same analysis on other inputs: result, headline, and whether it passes the rule."""

    result: R
    value: float
    passes: bool


@dataclass(frozen=True)
class Finding(Generic[R]):
    """A result that never travels without its null and its controls.

    `arm` and `symbol` say what was read ("" for plain text); `null_results` holds the result of
    every null draw and `null_values` their headlines, both in the order drawn. `also` holds the
    analysis's other numbers by metrics.json key.
    """

    analysis: str
    question: str
    arm: str
    symbol: str
    result: R
    metric: str
    value: float
    unit: str
    null: Null | None
    null_values: tuple[float, ...]
    null_results: tuple[R, ...]
    controls: Mapping[str, Control[R]]
    rule: str
    null_name: str = INERT
    estimate: Estimate | None = None
    also: Mapping[str, Metric] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.null_values) != len(self.null_results):
            raise ValueError(
                f"{self.analysis}: {len(self.null_values)} null values,"
                f" {len(self.null_results)} null results"
            )
        if not np.isfinite([self.value, *self.null_values]).all():
            raise ValueError(f"{self.analysis}: a headline is not finite")

    @property
    def passing(self) -> tuple[str, ...]:
        """What passes too: controls by the rule, the null by p > 5 %; any makes the number void."""
        names = [name for name, control in self.controls.items() if control.passes]
        void = self.null is not None and self.null.p > ALPHA
        return (*names, self.null_name) if void else tuple(names)

    @property
    def statement(self) -> str:
        """Which of null and controls pass too, in words."""
        verb = "passes" if len(self.passing) == 1 and self.passing[0] != self.null_name else "pass"
        if self.passing:
            first = f"Proves nothing about the trigger: {_listed(self.passing)} {verb} too"
        else:
            first = "Nothing else passes"
        null = self.null
        draws = f"; p = {null.p:.2g} against {null.n} {self.null_name}" if null else ""
        return f"{first}. A control passes if {self.rule}{draws}."

    def entry(self) -> dict[str, Any]:
        """The headline as metrics.json keeps it."""
        controls = {name: control.value for name, control in self.controls.items()}
        return metric(self.value, self.unit, self.estimate, self.null, controls).row()

    def entries(self) -> dict[str, dict[str, Any]]:
        """Every number of the finding by its metrics.json key."""
        rest = {metric: measured.row() for metric, measured in self.also.items()}
        return {self.metric: self.entry()} | rest


def investigate(analysis: Analysis[R], views: Views) -> Finding[R]:
    """What does the analysis find, and what do the same lines find in null and controls?"""
    real = views.seen_as(symbol=analysis.symbol)
    result = _run(analysis, real)
    draws = tuple(_run(analysis, view) for view in analysis.null(real))
    values = tuple(analysis.headline.of(draw) for draw in draws)
    value = analysis.headline.of(result)
    controls = {k: _control(analysis, result, v) for k, v in analysis.controls(real).items()}
    main = _measured(analysis.headline, result, draws, controls)
    return Finding(
        analysis=analysis.name,
        question=analysis.question,
        arm=real.arm,
        symbol=real.text(),
        result=result,
        metric=analysis.headline.metric.format(arm=real.arm),
        value=value,
        unit=analysis.headline.unit,
        null=main.null,
        null_values=values,
        null_results=draws,
        controls=controls,
        rule=analysis.rule.statement,
        null_name=analysis.null_name,
        estimate=analysis.headline.estimate(result) if analysis.headline.estimate else None,
        also={
            one.metric.format(arm=real.arm): _measured(one, result, draws, controls)
            for one in analysis.also
        },
    )


def _measured(
    headline: Headline[R], result: R, draws: tuple[R, ...], controls: Mapping[str, Control[R]]
) -> Metric:
    value = headline.of(result)
    null = tuple(headline.of(draw) for draw in draws) if headline.nulled else ()
    return metric(
        value,
        headline.unit,
        headline.estimate(result) if headline.estimate else None,
        _null(value, null, headline.tail) if null else None,
        {
            name: headline.of(control.result)
            for name, control in controls.items()
            if headline.nulled or name.startswith(ARM)
        },
    )


def metric(
    value: float,
    unit: str,
    estimate: Estimate | None,
    null: Null | None,
    controls: Mapping[str, float],
) -> Metric:
    """A headline as metrics.json holds it, with an interval where something was sampled."""
    plain = Metric(value, unit, null=null, controls=controls)
    if estimate is None:
        return plain
    return replace(plain, low=estimate.low, high=estimate.high, n=estimate.n)


def as_large(of: Callable[[R], float]) -> Callable[[R, R], bool]:
    """A rule's test: the control's headline has the same sign and at least 80 % of the size."""

    def passes(real: R, control: R) -> bool:
        return of(real) * of(control) > 0 and abs(of(control)) >= SHARE * abs(of(real))

    return passes


def _run(analysis: Analysis[R], views: Views) -> R:
    return analysis.run(*(views.array(read) for read in analysis.reads))


def _control(analysis: Analysis[R], real: R, views: Views) -> Control[R]:
    result = _run(analysis, views)
    return Control(result, analysis.headline.of(result), analysis.rule.passes(real, result))


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def _null(value: float, draws: tuple[float, ...], tail: str) -> Null:
    plain = against_null(value, draws)
    if tail == "greater":
        return plain
    # The centre includes the value itself: value and draws stay exchangeable, p stays honest.
    centre = float(np.median([value, *draws]))
    folded = against_null(abs(value - centre), np.abs(np.asarray(draws) - centre))
    return Null(q95=plain.q95, p=folded.p, n=plain.n)
