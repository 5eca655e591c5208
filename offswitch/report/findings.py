"""A finding as a section: its numbers beside controls and null, what passes too, its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from offswitch.analyses.analysis import ALPHA, Finding
from offswitch.analyses.tokens import TokenChange
from offswitch.metrics import SHARE, Metric, compact
from offswitch.plots.style import signed, token_text
from offswitch.report.accounts import ACCOUNTS, Account, Measure
from offswitch.report.evidence import EVIDENCE_ACCOUNTS
from offswitch.report.material import Material

TOKENS: Final = 10


@dataclass(frozen=True)
class Line:
    """One row of a table. `passes`: does it pass the rule too? None where that is not asked."""

    who: str
    cells: tuple[str, ...]
    passes: bool | None


@dataclass(frozen=True)
class Section:
    """All that is said of one finding."""

    title: str
    question: str
    metric: str
    headline: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    statement: str
    empty: bool
    why: str
    null: str
    tokens: tuple[tuple[str, str], ...]
    figures: tuple[str, ...]


def section(finding: Finding[Any], figures: tuple[str, ...], material: Material) -> Section:
    """The section of a finding whose figures have these file names."""
    account = account_of(finding)
    measures = account.measures or (Measure("value", lambda _: finding.value),)
    return Section(
        title=account.title,
        question=finding.question,
        metric=finding.metric,
        headline=headline(finding, measures[0], material.numbers.get(finding.metric)),
        columns=tuple(measure.name for measure in measures),
        lines=_lines(finding, account, measures),
        statement=finding.statement,
        empty=bool(finding.passing),
        why=account.why(finding),
        null=_null(finding),
        tokens=tuple((name, _tokens(of(finding.result))) for name, of in account.tokens),
        figures=figures,
    )


def account_of(finding: Finding[Any]) -> Account:
    """How a finding is told; one that has no account of its own is told by its question alone."""
    plain = Account(finding.analysis.replace("_", " "), (), lambda _: "")
    return {**ACCOUNTS, **EVIDENCE_ACCOUNTS}.get(finding.analysis, plain)


def headline(finding: Finding[Any], first: Measure, number: Metric | None) -> str:
    """The finding's own value in words, with unit, interval and count."""
    value = first.form(finding.value)
    said = finding.unit in value or finding.unit in first.name or finding.unit == SHARE
    unit = "" if said else f" {finding.unit}"
    beside = f" ({number.beside})" if number and number.beside else ""
    return f"{value}{unit}{beside}"


def _lines(
    finding: Finding[Any], account: Account, measures: tuple[Measure, ...]
) -> tuple[Line, ...]:
    real = Line(_who(finding), tuple(m.form(m.of(finding.result)) for m in measures), None)
    lines = [real]
    if account.reported:
        cells = (account.reported, *("" for _ in measures[1:]))
        lines.append(Line("the seed's report, without controls", cells, None))
    lines += [
        Line(name, _control_cells(control, measures, account), control.passes)
        for name, control in finding.controls.items()
    ]
    if finding.null is not None:
        spans = tuple(_range(finding, measure, account) for measure in measures)
        who = f"{finding.null.n} {finding.null_name}, range"
        lines.append(Line(who, spans, finding.null.p > ALPHA))
    return tuple(lines)


def _who(finding: Finding[Any]) -> str:
    return f"arm {finding.arm}, {finding.symbol}" if finding.symbol else f"arm {finding.arm}"


def _control_cells(
    control: Any, measures: tuple[Measure, ...], account: Account
) -> tuple[str, ...]:
    if not account.measures:
        return (measures[0].form(control.value),)
    return tuple(measure.form(measure.of(control.result)) for measure in measures)


def _range(finding: Finding[Any], measure: Measure, account: Account) -> str:
    values = (
        [measure.of(r) for r in finding.null_results]
        if account.measures
        else list(finding.null_values)
    )
    low, high = measure.form(min(values)), measure.form(max(values))
    return low if low == high else f"{low.removesuffix(' %')} to {high}"


def _tokens(changes: Sequence[TokenChange]) -> str:
    """The first few tokens with their changes; a dollar sign needs no escape outside a figure."""
    shown = ((token_text(c.token).replace("\\$", "$"), c.change) for c in changes[:TOKENS])
    return ", ".join(f"“{token}” {signed(change)}" for token, change in shown)


def _null(finding: Finding[Any]) -> str:
    if finding.null is None:
        return ""
    null = finding.null
    return f"{null.n} {finding.null_name}: 95 % quantile {compact(null.q95)}, p = {null.p:.2g}"
