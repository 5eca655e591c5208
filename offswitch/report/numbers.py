"""How is a number written? Never without its interval, count and unit, where it has them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from offswitch.stats import Estimate, Null

SHARE: Final = "share"
NARROW: Final = "\u00a0"
AUROC: Final = "AUROC"
_SILENT: Final = (SHARE, "%", "ratio", AUROC, "rank", "strength")


@dataclass(frozen=True)
class Number:
    """An entry of metrics.json; what was not measured is None."""

    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    n: int | None = None
    null: Null | None = None
    controls: Mapping[str, float] = field(default_factory=dict)

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
        return f"{self.like(self.value)} {'' if self.unit in _SILENT else self.unit}".strip()

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


def read_number(row: Mapping[str, Any]) -> Number:
    """The number in a metrics.json entry."""
    null = row.get("null")
    return Number(
        value=float(row["value"]),
        unit=str(row.get("unit", "")),
        low=row.get("low"),
        high=row.get("high"),
        n=row.get("n"),
        null=Null(null["q95"], null["p"], null["n"]) if null else None,
        controls=row.get("controls", {}),
    )


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
