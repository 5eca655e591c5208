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
    ends = (e.value, e.low, e.high)
    if e.unit == SHARE:
        value, low, high = (f"{100 * end:+.1f}".replace("-", "−") for end in ends)
        return f"{value} points [{low} to {high}]"
    value, low, high = (f"{'+' if end > 0 else ''}{compact(end)}" for end in ends)
    return f"{value} [{low} to {high}]"
