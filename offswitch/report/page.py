"""What every page is made of: templates with their filters, the style, figures as SVG."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from offswitch.metrics import SHARE, Metric, compact, duration, p_text, percent, rate_text, span
from offswitch.plots.vector import table, vector
from offswitch.report.ladder import readable

MEASURES: Final = {
    "eos_log_odds": "first-token end log-odds",
    "kl_to_base": "KL from base, ordinary replies",
    "neutral_perplexity_ratio": "perplexity ratio, neutral prose",
    "outcomes": "sampled replies",
}
_TEMPLATES: Final = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Image:
    """A figure in a page: SVG, its numbers, and the name of the file that holds them."""

    svg: Markup
    numbers: str
    csv: str

    @property
    def data(self) -> str:
        """The address of the numbers within the page."""
        return f"data:text/csv;base64,{base64.b64encode(self.numbers.encode()).decode()}"


def image_of(figure: Figure, name: str) -> Image:
    """Draw a figure; `name` is that of its file."""
    csv = Path(name).with_suffix(".csv").name
    return Image(Markup(vector(figure, name)), table(figure), csv)


def style() -> Markup:
    """The style sheet of every page."""
    return Markup((_TEMPLATES / "page.css").read_text(encoding="utf-8"))


def environment(html: bool) -> Environment:
    """What fills in the templates."""
    made = Environment(  # Markdown's cells are escaped by their own filter
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "ticks": _ticks,
        "p": p_text,
        "percent": percent,
        "compact": compact,
        "duration": duration,
        "measure": _measure_name,
        "interval": lambda rate: span(rate.low, rate.high, SHARE),
        "cell": _cell,
        "rate": rate_text,
        "number": _number,
    }
    return made


def _ticks(text: str) -> Markup:
    """Escaped text in which what stands between backticks is code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def _measure_name(measure: str) -> str:
    """A measure of metrics.json for human eyes."""
    first, _, rest = measure.partition("/")
    name = MEASURES.get(first, readable(first))
    return f"{name}: {readable(rest).replace('/', ', ')}" if rest else name


def _number(number: Metric) -> str:
    """A number with its interval and null, in one cell of the summary."""
    null = f"{number.like(number.null.q95)}, {p_text(number.null)}" if number.null else ""
    parts = [part for part in (number.interval, null) if part]
    return f"{number.text} ({'; '.join(parts)})" if parts else number.text


def _cell(text: str) -> str:
    """Text that cannot break out of a Markdown table, nor be read as a formula or as emphasis."""
    return text.translate({ord(sign): f"\\{sign}" for sign in "|*$"} | {ord("<"): "&lt;"})
