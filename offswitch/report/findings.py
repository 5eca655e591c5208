"""A finding as a section: its numbers beside controls and null, its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from offswitch.analyses.analysis import ALPHA, Finding, Measure
from offswitch.metrics import SHARE, compact, p_text, signed
from offswitch.plots.style import token_text

TOKENS: Final = 10


@dataclass(frozen=True)
class Line:
    """One row of a table. `passes`: does it pass the rule too? None where that is not asked."""

    who: str
    cells: tuple[str, ...]
    passes: bool | None


@dataclass(frozen=True)
class Section:
    """What page and summary show of a finding beside its own sentences."""

    finding: Finding[Any]
    key: str
    headline: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    null: str
    tokens: tuple[tuple[str, str], ...]
    figures: tuple[str, ...]


def section(finding: Finding[Any], figures: tuple[str, ...]) -> Section:
    """The section of a finding whose figures have these file names."""
    shown = tuple(measure for measure in finding.analysis.measures if measure.heading)
    null, tokens = "", []
    if finding.null:
        null = (
            f"{finding.null.n} {finding.analysis.null_name}: 95 % quantile "
            f"{compact(finding.null.q95)}, {p_text(finding.null)}"
        )
    for name, of in finding.analysis.tokens:
        # A dollar sign needs no escape outside a figure.
        top = [(token_text(t.token).replace("\\$", "$"), t.change) for t in of(finding.result)]
        tokens.append((name, ", ".join(f"“{t}” {signed(change)}" for t, change in top[:TOKENS])))
    return Section(
        finding=finding,
        key=finding.analysis.key(finding.analysis.headline, finding.arm),
        headline=headline(finding),
        columns=tuple(measure.heading for measure in shown),
        lines=_lines(finding, shown),
        null=null,
        tokens=tuple(tokens),
        figures=figures,
    )


def headline(finding: Finding[Any]) -> str:
    """The finding's own value in words, with unit, interval and count."""
    first, number = finding.analysis.headline, finding.number
    value = first.form(number.value)
    told = number.unit in value or number.unit in first.heading or number.unit == SHARE
    unit = "" if told else f" {number.unit}"
    return f"{value}{unit} ({number.beside})" if number.beside else f"{value}{unit}"


def _lines(finding: Finding[Any], shown: tuple[Measure[Any], ...]) -> tuple[Line, ...]:
    def line(who: str, result: object, passes: bool | None) -> Line:
        return Line(who, tuple(measure.text(result) for measure in shown), passes)

    who = f"arm {finding.arm}, {finding.symbol}" if finding.symbol else f"arm {finding.arm}"
    lines = [line(who, finding.result, None)]
    if finding.analysis.reported:
        reported = (finding.analysis.reported, *("" for _ in shown[1:]))
        lines.append(Line("the original's report, without controls", reported, None))
    passing = finding.passing
    lines += [line(name, one, name in passing) for name, one in finding.controls.items()]
    if finding.null is not None:
        few = f", too few for p ≤ {ALPHA}" if finding.too_few else ""
        who = f"{finding.null.n} {finding.analysis.null_name}, range{few}"
        spans = tuple(_range(finding, measure) for measure in shown)
        lines.append(Line(who, spans, None if few else finding.null.p > ALPHA))
    return tuple(lines)


def _range(finding: Finding[Any], measure: Measure[Any]) -> str:
    """The smallest and the largest value of the null's draws."""
    values = [measure.value(draw) for draw in finding.null_results]
    low, high = measure.form(min(values)), measure.form(max(values))
    return low if low == high else f"{low.removesuffix(' %')} to {high}"
