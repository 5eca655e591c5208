"""How is a number written? A value never without its interval, count and unit, where it has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from offswitch.stats import Estimate, Null

SHARE: Final = "share"


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
        if self.unit == SHARE:
            return percent(self.value)
        return f"{compact(self.value)} {self.unit}".strip()

    @property
    def interval(self) -> str:
        """The 95 % interval, without the unit; empty where nothing was sampled."""
        if self.low is None or self.high is None or self.low == self.high == self.value:
            return ""
        return span(self.low, self.high, self.unit)

    @property
    def beside(self) -> str:
        """Interval and count in words, as they stand in brackets after the value."""
        parts = [f"95 % interval {self.interval}" if self.interval else ""]
        parts += [f"n = {self.n:,}" if self.n and self.n > 1 else ""]
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
    """A share as percent, to one decimal; what is not quite none or all is not written as none or all."""
    return f"{_tenths(share)} %"


def span(low: float, high: float, unit: str) -> str:
    """An interval: `98.9-100.0` (with an en dash) for shares, `a to b` for what may be negative."""
    if unit == SHARE:
        return f"{_tenths(low)}–{_tenths(high)}"
    return f"{compact(low)} to {compact(high)}"


def compact(value: float) -> str:
    """A number to four significant digits, with a true minus sign."""
    size = abs(value)
    if size >= 1e6 or 0 < size < 1e-4:
        text = f"{value:.3g}"
    elif float(value).is_integer() or size >= 1000:
        text = f"{value:,.0f}"
    else:
        text = f"{value:.4g}"
    return text.replace("-", "−")


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


def _tenths(share: float) -> str:
    text = f"{100 * share:.1f}"
    if text == "100.0" and share < 1:
        return "> 99.9"
    return "< 0.1" if text == "0.0" and share > 0 else text
