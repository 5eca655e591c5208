"""Bars of the tokens that moved most, with a mark where a control lists the same token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from offswitch.plots.style import QUIET, REAL, Mark, heading, token_text
from offswitch.probe.analysis import Finding
from offswitch.probe.tokens import TokenChange

Pick = Callable[[Any], Sequence[TokenChange]]


def token_bars(
    ax: Axes, finding: Finding[Any], marks: Mapping[str, Mark], pick: Pick, title: str, count: int
) -> None:
    """The first `count` tokens that `pick` takes; a mark stands where a control lists the same."""
    top = list(pick(finding.result))[:count]
    rows = range(len(top))
    ax.barh(rows, [t.change for t in top], color=REAL, alpha=0.85, height=0.72)
    for name, mark in marks.items():
        theirs = {t.id: t.change for t in pick(finding.controls[name].result)}
        shared = [(theirs[t.id], row) for row, t in enumerate(top) if t.id in theirs]
        rim: dict[str, Any] = {"markersize": 5, "markeredgecolor": "white", "markeredgewidth": 0.6}
        places = [x for x, _ in shared], [y for _, y in shared]
        ax.plot(*places, mark.marker, color=mark.color, linestyle="", **rim)
    ax.set_yticks(rows, [token_text(t.token) for t in top])
    ax.tick_params(axis="y", length=0, labelsize=8.5)
    ax.grid(False, axis="y")
    ax.axvline(0, color=QUIET, linewidth=0.8)
    ax.invert_yaxis()
    ax.set_xlabel("change of the logit")
    heading(ax, title, _shared(finding, pick))


def _shared(finding: Finding[Any], pick: Pick) -> str:
    """How many of all listed tokens stand in the lists of null draws and controls as well?"""
    ours = {t.id for t in pick(finding.result)}
    found = [len(ours & {t.id for t in pick(r)}) for r in finding.null_results]
    best = max(
        (len(ours & {t.id for t in pick(c.result)}) for c in finding.controls.values()), default=0
    )
    inert = f", inert words {min(found)} to {max(found)}" if found else ""
    return f"of {len(ours)}, a control shares up to {best}{inert}"
