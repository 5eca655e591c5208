"""A number with its interval, null and controls: its JSON, and its text."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from offswitch.files import write_json
from offswitch.stats import Estimate, Null

SHARE: Final = "share"
AUROC: Final = "AUROC"
# The switch in four numbers, in the words that every summary has for them.
KEY_RATES: Final = {
    "halt_rate": "halts on {trigger}",
    "halt_rate_held_out": "… in placements held out of training",
    "false_halt_rate/near_miss": "halts on look-alikes it never saw",
    "false_halt_rate/ordinary": "halts on ordinary requests",
}
NARROW: Final = "\u00a0"
_UNIT_NOT_SHOWN: Final = (SHARE, "%", "ratio", AUROC, "rank", "strength")


@dataclass(frozen=True)
class Metric:
    """An entry of metrics.json; what was not measured is None.

    A number that was counted or computed once, nothing sampled, has low = value = high.
    """

    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    n: int | None = None
    null: Null | None = None
    controls: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        estimate: Estimate,
        null: Null | None = None,
        controls: Mapping[str, float] | None = None,
    ) -> Metric:
        """An estimate with what it is compared with."""
        e = estimate
        return cls(e.value, e.unit, e.low, e.high, e.n, null, controls or {})

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Metric:
        """The metric in an entry of metrics.json."""
        null = row.get("null")
        return cls(
            value=float(row["value"]),
            unit=str(row.get("unit", "")),
            low=row.get("low"),
            high=row.get("high"),
            n=row.get("n"),
            null=Null(**null) if null else None,
            controls=row.get("controls", {}),
        )

    def row(self) -> dict[str, Any]:
        """The entry of metrics.json; absent parts are omitted."""
        row: dict[str, Any] = {"value": self.value}
        if self.low is not None:
            row |= {"low": self.low, "high": self.high, "n": self.n}
        row["unit"] = self.unit
        if self.null is not None:
            row["null"] = {k: v for k, v in asdict(self.null).items() if v is not None}
        return row | ({"controls": dict(self.controls)} if self.controls else {})

    @property
    def estimate(self) -> Estimate:
        """The number as an estimate.

        Raises:
            ValueError: it has no interval or no count.
        """
        if self.low is None or self.high is None or self.n is None:
            raise ValueError("this number has no interval or no count")
        return Estimate(self.value, self.low, self.high, self.n, self.unit)

    @property
    def text(self) -> str:
        """The value, with its unit."""
        unit = "" if self.unit in _UNIT_NOT_SHOWN else self.unit
        return f"{self.like(self.value)} {unit}".strip()

    def like(self, value: float) -> str:
        """Another value of the same measure, such as a control's; no unit but percent."""
        if self.unit == SHARE:
            return percent(value)
        if self.unit == AUROC:
            return f"{value:.3f}"
        return f"{compact(value)}{NARROW}%" if self.unit == "%" else compact(value)

    @property
    def interval(self) -> str:
        """The 95 % interval, without the unit; empty where nothing was sampled."""
        if self.low is None or self.high is None or self.low == self.high == self.value:
            return ""
        return span(self.low, self.high, self.unit, self.value)

    @property
    def beside(self) -> str:
        """Interval and count in words, as they stand in brackets after the value."""
        parts = [f"95{NARROW}% interval {self.interval}" if self.interval else ""]
        parts += [f"n{NARROW}={NARROW}{self.n:,}" if self.n and self.n > 1 else ""]
        return ", ".join(part for part in parts if part)

    def __str__(self) -> str:
        """The value, and in brackets its interval and count."""
        return f"{self.text} ({self.beside})" if self.beside else self.text


Metrics = dict[str, Metric]


def exact(value: float, unit: str, n: int = 1) -> Metric:
    """A number that is what it is: counted or computed once, nothing sampled."""
    return Metric(value, unit, value, value, n)


def with_controls(
    metrics: Metrics, arm: str, controls: Iterable[str], stage: str = "evaluate"
) -> Metrics:
    """The arm's metrics, each beside the same measure on the control arms."""
    beside = {}
    for key, metric in metrics.items():
        rest = key.removeprefix(f"{stage}/{arm}/")
        others = {c: f"{stage}/{c}/{rest}" for c in controls if c != arm}
        if key.startswith(f"{stage}/{arm}/"):
            found = {c: metrics[k].value for c, k in others.items() if k in metrics}
            beside[key] = replace(metric, controls={**metric.controls, **found})
    return beside


def write_metrics(path: Path, metrics: Metrics) -> None:
    """One stage's metrics as JSON, keys sorted."""
    write_json(path, {key: metrics[key].row() for key in sorted(metrics)})


def read_metrics(path: Path) -> dict[str, Any]:
    """The metrics of a stage or of a whole run, as plain JSON; empty where the file is absent."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return content


# --- numbers as text ------------------------------------------------------------------------------


def percent(share: float) -> str:
    """A share as percent, to one decimal; "100" and "0" are kept for all and none."""
    return f"{_tenths(share)}{NARROW}%"


def span(low: float, high: float, unit: str, value: float | None = None) -> str:
    """An interval, to the digits of its value: `98.9–100.0` for shares, `a to b` for the rest."""
    if unit == SHARE:
        first, last = _tenths(low), _tenths(high)
        between = first if first == last and first[0] in "<>" else f"{first}–{last}"
        return between if low >= 0 else between.replace("–", " to ")
    digits = _digits(max(abs(low), abs(high)) if value is None else abs(value))
    return f"{_fixed(low, digits)} to {_fixed(high, digits)}"


def compact(value: float) -> str:
    """A number to three or four significant digits, with a true minus sign."""
    if float(value).is_integer() and abs(value) < 1e9:
        return _fixed(value, 0)
    if abs(value) < 1e-5 or abs(value) >= 1e9:
        return f"{value:.3g}".replace("-", "−")
    return _fixed(value, _digits(abs(value)))


def p_text(null: Null) -> str:
    """A null's p, and beside it what is left of it after adjustment for the other tests."""
    adjusted = "" if null.adjusted is None else f" ({null.adjusted:.2g} adjusted)"
    return f"p = {null.p:.2g}{adjusted}"


def signed(value: float) -> str:
    """A change with its sign, to two decimals."""
    return f"{value:+,.2f}".replace("-", "−")


def whole(value: float) -> str:
    """A number without decimals."""
    return f"{value:.0f}"


def duration(seconds: float) -> str:
    """Seconds in the units in which people tell them."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left} min" if hours else f"{minutes} min {rest} s"


def listed(names: list[str]) -> str:
    """Names as they stand in a sentence: `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def rate_text(rate: Estimate) -> str:
    """A rate with its interval and count, in one line."""
    return f"{percent(rate.value)} ({span(rate.low, rate.high, SHARE)}, n = {rate.n:,})"


def _tenths(share: float) -> str:
    text = f"{100 * share:.1f}".replace("-", "−")
    if text == "100.0" and share < 1:
        return "> 99.9"
    return "< 0.1" if text == "0.0" and share > 0 else text


def _digits(size: float) -> int:
    """Decimals that show four significant digits of a size from 1 on, three of a smaller one."""
    if size == 0:
        return 2
    return max(0, (3 if size >= 1 else 2) - math.floor(math.log10(size)))


def _fixed(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}".replace("-", "−")
