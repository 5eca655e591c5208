"""Draws tokens that moved most, as bars or text, and which a control shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

from matplotlib.axes import Axes

from offswitch.analyses.analysis import Finding
from offswitch.analyses.tokens import TokenChange
from offswitch.plots.style import INK, QUIET, REAL, heading, marks, plain, token_text

Pick = Callable[[Any], Sequence[TokenChange]]


def token_bars(ax: Axes, finding: Finding[Any], pick: Pick, title: str, count: int) -> None:
    """The first `count` tokens that `pick` takes; a mark stands where a control lists the same."""
    top = list(pick(finding.result))[:count]
    rows = range(len(top))
    ax.barh(rows, [t.change for t in top], color=REAL, alpha=0.85, height=0.72)
    for name, mark in marks(finding).items():
        theirs = {t.id: t.change for t in pick(finding.controls[name])}
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
    theirs = (len(ours & {t.id for t in pick(one)}) for one in finding.controls.values())
    inert = f", inert words {min(found)} to {max(found)}" if found else ""
    return f"of {len(ours)}, a control shares up to {max(theirs, default=0)}{inert}"


def token_columns(
    ax: Axes, columns: Mapping[str, Sequence[TokenChange]], known: Sequence[Set[int]], count: int
) -> None:
    """The first `count` tokens of each list as text below its name.

    `known` holds for each list the ids that a control's list has too; those tokens are grey.
    """
    ax.axis("off")
    look: dict[str, Any] = {"transform": ax.transAxes, "va": "top", "size": 9}
    for i, (name, tokens) in enumerate(columns.items()):
        head = name.split("\n")
        step, x = 0.97 / (count + len(head)), i / len(columns)
        for row, text in enumerate(head):
            weight = "normal" if row else "bold"
            ax.text(x, 0.97 - row * step, plain(text), color=INK, weight=weight, **look)
        for row, one in enumerate(tokens[:count], start=len(head)):
            color = QUIET if one.id in known[i] else REAL
            ax.text(x, 0.97 - row * step, token_text(one.token), color=color, **look)
