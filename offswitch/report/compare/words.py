"""Numbers and differences of a comparison as text, for its page and the terminal."""

from __future__ import annotations

from offswitch.metrics import SHARE, Metric, compact, duration
from offswitch.report.compare.differences import Difference


def value_text(number: Metric) -> str:
    """The value, times in the units in which people tell them."""
    return duration(number.value) if number.unit == "s" else number.text


def change_text(found: Difference) -> str:
    """A difference with its sign and its interval; of shares in points."""
    e = found.estimate
    value, low, high = (_signed(end, e.unit) for end in (e.value, e.low, e.high))
    unit = " points" if e.unit == SHARE else ""
    return f"{value}{unit} [{low} to {high}]"


def _signed(value: float, unit: str) -> str:
    if unit == SHARE:
        return f"{100 * value:+.1f}".replace("-", "−")
    return f"{'+' if value > 0 else ''}{compact(value)}"
