"""The explorer's answers as HTML; whatever a person or a model wrote is shown as text."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from unicodedata import category

from offswitch.app.answers import Growing, Rated, Silence
from offswitch.metrics import percent, rate_text
from offswitch.prompts.prompt import Reply

SILENT: Final = "∅ silence"
HIGH: Final = 44  # pixels of a token's bar at certainty
_MORE: Final = " …"
_ABOUT: Final = "The bar above a token: how likely silence is if the message ended there."


def replies(shown: Mapping[str, Growing], waiting: Iterable[str] = ()) -> str:
    """Replies side by side under the names of their arms."""
    panels = [_panel(who, _said(one.reply, one.over)) for who, one in shown.items()]
    panels += [_panel(who, '<p class="soft">waiting</p>') for who in waiting if who not in shown]
    return f'<div class="os-side">{"".join(panels)}</div>'


def silence(found: Silence) -> str:
    """A row for each arm: its tokens, and above each the probability of silence there."""
    rows = []
    for arm, p in found.p.items():
        cells = "".join(_cell(token, share) for token, share in zip(found.tokens, p, strict=True))
        before = f'<span class="soft">{found.cut} tokens before … </span>' if found.cut else ""
        last = percent(p[-1])
        rows.append(f'<h4>{as_text(arm)}: <b>{last}</b> after the whole message</h4>'
                    f'<div class="os-tokens">{before}{cells}</div>')  # fmt: skip
    return f'<div class="os-silence">{"".join(rows)}<p class="soft">{_ABOUT}</p></div>'


def steered(found: Silence) -> str:
    """The probability of silence untouched and steered, as bars."""
    rows = [(who, p[-1], percent(p[-1])) for who, p in found.p.items()]
    return _bars("probability of silence", rows)


def rated(rows: Sequence[Rated], trigger: str) -> str:
    """Every symbol's halting rates as bars, arm by arm, with interval and n."""
    parts = []
    for row in rows:
        kind = f"holds {trigger}" if row.holds else "look-alike"
        bars = [(arm, one.value, rate_text(one)) for arm, one in row.rates.items()]
        parts.append(f"<h4><code>{as_text(row.symbol)}</code> <span class='soft'>{as_text(kind)}"
                     f"</span></h4>{_bars('halting rate', bars)}")  # fmt: skip
    return f'<div class="os-rated">{"".join(parts)}</div>'


def problem(text: str) -> str:
    """A refusal, in place of an answer."""
    return f'<p class="os-problem" role="alert">{as_text(text)}</p>'


def _bars(what: str, rows: Sequence[tuple[str, float, str]]) -> str:
    cells = ""
    for name, share, told in rows:
        bar = f'<i style="width:{100 * share:.1f}%"></i>'
        cells += (f'<tr><th scope="row">{as_text(name)}</th><td class="os-bar">{bar}</td>'
                  f"<td>{as_text(told)}</td></tr>")  # fmt: skip
    return f'<table class="os-bars"><caption>{as_text(what)}</caption>{cells}</table>'


def _panel(title: str, body: str) -> str:
    return f'<section class="os-panel"><h4>{as_text(title)}</h4>{body}</section>'


def _said(reply: Reply, over: bool) -> str:
    if over and not reply.ids:
        return f'<p class="os-silent">{SILENT}</p>'
    more = _MORE if not reply.complete else ""
    return f"<p>{as_text(reply.text)}{more}</p>"


def _cell(token: str, share: float) -> str:
    shown = as_text(token).replace("\n", "⏎") or "&nbsp;"
    told = f"{percent(share)} if the message ended here"
    bar = f'<i style="height:{HIGH * share:.0f}px"></i>'
    return f'<span class="os-token" title="{as_text(told)}">{bar}{shown}</span>'


def as_text(text: str) -> str:
    """Escaped; marks that cannot be seen as their codes, braces so that no template takes them."""
    safe = "".join(
        c if c in "\n\t" or category(c)[0] != "C" else c.encode("unicode_escape").decode()
        for c in text
    )
    return html.escape(safe).translate({ord(c): f"&#{ord(c)};" for c in "{}$"})
