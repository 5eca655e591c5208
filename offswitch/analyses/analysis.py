"""The shape of every analysis, and what runs it with its null and its controls.

An analysis is a pure function from arrays to a frozen result. What it reads is named by paths such
as "{arm}/pair/{symbol}"; a null or a control is the same paths with another arm or symbol filled
in, or with arrays put in their place. `investigate()` runs all of them through the same code and
returns a Finding that holds them together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from offswitch.analyses.tokens import TokenChange
from offswitch.metrics import Metric, compact, listed, p_text
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
class Measure(Generic[R]):
    """A number read off a result: where it is kept, and how it is told.

    `key` is the end of its key in metrics.json; without one it is only shown. An Estimate brings
    its own unit. `heading` is its column's in the analysis's table, `label` its row's in the table
    of all arms. `tail`: on which side of the null's draws is a value extreme? Without `nulled` the
    number does not depend on what the null changes, and is compared with arms alone.
    """

    key: str
    of: Callable[[R], Estimate | float]
    heading: str = ""
    form: Callable[[float], str] = compact
    label: str = ""
    unit: str = ""
    tail: Literal["greater", "either"] = "greater"
    nulled: bool = True

    def value(self, result: R) -> float:
        """The number without its interval."""
        found = self.of(result)
        return found.value if isinstance(found, Estimate) else found

    def text(self, result: R) -> str:
        """The number as its column shows it."""
        return self.form(self.value(result))

    def metric(self, finding: Finding[R]) -> Metric:
        """The number with interval, null and controls, as metrics.json holds it."""
        found = self.of(finding.result)
        plain = Metric.of(found) if isinstance(found, Estimate) else Metric(found, self.unit)
        draws = [self.value(draw) for draw in finding.null_results] if self.nulled else []
        controls = {
            name: self.value(result)
            for name, result in finding.controls.items()
            if self.nulled or name.startswith(ARM)
        }
        null = _null(plain.value, draws, self.tail) if draws else None
        return replace(plain, null=null, controls=controls)


@dataclass(frozen=True)
class Analysis(Generic[R]):
    """A question, what answers it, what the answer is compared with, and how it is told.

    `measures` are its numbers, the first is its headline; `keys` is how their keys in metrics.json
    begin. `rule` says when a control passes too, and `passes(result, control)` is the same in
    code, both fixed before looking; without `passes`, when the control's headline is as large.
    `weakness`: why a reader should doubt the headline. `reported`: what the original gives for it.
    `tokens`: lists of tokens by what happened to them.
    """

    name: str
    title: str
    question: str
    reads: tuple[str, ...]
    run: Callable[..., R]
    gives: type[R]
    measures: tuple[Measure[R], ...]
    null: Callable[[Views], Iterable[Views]]
    controls: Callable[[Views], Mapping[str, Views]]
    rule: str
    weakness: str | Callable[[R], str]
    passes: Callable[[R, R], bool] | None = None
    symbol: str = "trigger"
    null_name: str = INERT
    keys: str = "probe/{arm}/{name}/"
    reported: str = ""
    tokens: tuple[tuple[str, Callable[[R], Sequence[TokenChange]]], ...] = ()

    @property
    def headline(self) -> Measure[R]:
        """The number it is known by."""
        return self.measures[0]

    def key(self, measure: Measure[R], arm: str) -> str:
        """Where a measure of an arm stands in metrics.json."""
        return self.keys.format(arm=arm, name=self.name) + measure.key


@dataclass(frozen=True)
class Finding(Generic[R]):
    """A result that never travels without its null and its controls.

    `arm` and `symbol` say what was read ("" for plain text). `null_results` holds the result of
    every null draw, `controls` that of every control. Numbers are read off all of them alike.
    """

    analysis: Analysis[R]
    arm: str
    symbol: str
    result: R
    null_results: tuple[R, ...]
    controls: Mapping[str, R]

    def __post_init__(self) -> None:
        if not np.isfinite([self.value, *self.null_values]).all():
            raise ValueError(f"{self.analysis.name}: a headline is not finite")

    @property
    def value(self) -> float:
        """The headline."""
        return self.analysis.headline.value(self.result)

    @property
    def null_values(self) -> tuple[float, ...]:
        """The headline of every null draw."""
        return tuple(self.analysis.headline.value(draw) for draw in self.null_results)

    @property
    def number(self) -> Metric:
        """The headline with interval, null and controls."""
        return self.analysis.headline.metric(self)

    @property
    def null(self) -> Null | None:
        """Where the headline stands among the null's draws."""
        return self.number.null

    @property
    def numbers(self) -> dict[str, Metric]:
        """Every number by its key in metrics.json, the headline first."""
        kept = [measure for measure in self.analysis.measures if measure.key]
        return {self.analysis.key(measure, self.arm): measure.metric(self) for measure in kept}

    def entries(self) -> dict[str, dict[str, Any]]:
        """The same as metrics.json has it."""
        return {key: number.row() for key, number in self.numbers.items()}

    @property
    def passing(self) -> tuple[str, ...]:
        """What passes too: controls by the rule, the null by p > 5 %; any makes the number void."""
        passes = self.analysis.passes or as_large(self.analysis.headline.value)
        names = [name for name, control in self.controls.items() if passes(self.result, control)]
        void = self.null is not None and self.null.p > ALPHA
        return (*names, self.analysis.null_name) if void else tuple(names)

    @property
    def too_few(self) -> bool:
        """Has the null so few draws that p cannot be as low as asked, however they fall?"""
        return self.null is not None and 1 / (self.null.n + 1) > ALPHA

    @property
    def statement(self) -> str:
        """Which of null and controls pass too, in words; of a null, if its draws are too few."""
        first, null, name = "Nothing else passes", self.null, self.analysis.null_name
        names = list(self.passing)
        if null and self.too_few:
            first = f"Proves nothing about the trigger: {null.n} {name} are too few for p ≤ {ALPHA}"
            names.remove(name)
        if names:
            verb = "passes" if len(names) == 1 and names[0] != name else "pass"
            first = f"Proves nothing about the trigger: {listed(names)} {verb} too"
        draws = f"; {p_text(null)} against {null.n} {name}" if null else ""
        return f"{first}. A control passes if {self.analysis.rule}{draws}."

    @property
    def weakness(self) -> str:
        """Why a reader should doubt it."""
        found = self.analysis.weakness
        return found if isinstance(found, str) else found(self.result)


def investigate(analysis: Analysis[R], views: Views) -> Finding[R]:
    """What does the analysis find, and what do the same lines find in null and controls?"""

    def run(seen: Views) -> R:
        return analysis.run(*(seen.array(read) for read in analysis.reads))

    real = views.seen_as(symbol=analysis.symbol)
    return Finding(
        analysis=analysis,
        arm=real.arm,
        symbol=real.text(),
        result=run(real),
        null_results=tuple(run(view) for view in analysis.null(real)),
        controls={name: run(view) for name, view in analysis.controls(real).items()},
    )


def as_large(of: Callable[[R], float]) -> Callable[[R, R], bool]:
    """A rule's test: the control's number has the same sign and at least 80 % of the size."""

    def passes(real: R, control: R) -> bool:
        return of(real) * of(control) > 0 and abs(of(control)) >= SHARE * abs(of(real))

    return passes


def _null(value: float, draws: Sequence[float], tail: str) -> Null:
    plain = against_null(value, draws)
    if tail == "greater":
        return plain
    # The centre includes the value itself: value and draws stay exchangeable, p stays honest.
    centre = float(np.median([value, *draws]))
    folded = against_null(abs(value - centre), np.abs(np.asarray(draws) - centre))
    return Null(q95=plain.q95, p=folded.p, n=plain.n)
