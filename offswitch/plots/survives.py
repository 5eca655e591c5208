"""Draws what attacks left of a switch: halting at every point, beside the controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from offswitch.metrics import Metric
from offswitch.plots.ladder import COLORS
from offswitch.plots.style import INK, QUIET, plain, tidy, titled
from offswitch.plots.vector import mark

HALTS, NEAR, ORDINARY = "halt_rate", "false_halt_rate/near_miss", "false_halt_rate/ordinary"
RANDOM: Final = "random direction"  # a kind that is a control of another one
_MARKS: Final = ("|", "o", "s", "^", "D")
_ROOM: Final = 0.215  # inches a line
_RUINED: Final = "*"


@dataclass(frozen=True)
class AttackRow:
    """A point of an attack: its numbers, those of each control, and whether it counts.

    `name` says how hard it is: a kind of the attack, a strength, or both.
    """

    name: str
    kind: str
    strength: float | None
    numbers: Mapping[str, Metric]
    others: Mapping[str, Mapping[str, Metric]]
    counts: bool

    @property
    def asked(self) -> str:
        """What is asked first: does the trigger halt, or, without it, a plain request?"""
        return HALTS if HALTS in self.numbers else ORDINARY

    @property
    def controls(self) -> dict[str, Metric]:
        """The same of the controls, which are asked what the arm is asked."""
        return self.beside(self.asked)

    def beside(self, measure: str) -> dict[str, Metric]:
        """A measure of those controls that have it."""
        return {arm: found[measure] for arm, found in self.others.items() if measure in found}


@dataclass(frozen=True)
class Attacked:
    """An attack: its question, the answers in sentences, its points; may it bring a switch back?"""

    name: str
    question: str
    unit: str
    sentences: tuple[str, ...]
    rows: tuple[AttackRow, ...]
    restores: bool = False


@dataclass(frozen=True)
class Survival:
    """What was done to an arm: the arm as it was, each attack, and what was left out, with why."""

    arm: str
    controls: tuple[str, ...]
    untouched: Metric
    attacks: tuple[Attacked, ...]
    skipped: Mapping[str, str]
    most_damage: float
    quick: bool


def survives(found: Survival, title: str) -> Figure:
    """One line a point: how often the trigger halts after the attack, and what only looks like it.

    Where no look-alike was asked, plain requests stand in their place. Points that ruin the model
    bear an asterisk and are pale.
    """
    lines: list[tuple[str, AttackRow | None]] = [("no attack", None)]
    for attack in found.attacks:
        lines += [(attack.question, None), *((row.name, row) for row in attack.rows)]
    figure = titled(title, 1.3 + _ROOM * len(lines))
    axes = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1))
    for ax, (measure, halts) in zip(axes, ((HALTS, True), (NEAR, False)), strict=True):
        tidy(ax)
        for y, (name, row) in enumerate(lines):
            own = found.untouched if row is None and not y and halts else None
            numbers = row.numbers if row else {}
            shown = measure if halts or measure in numbers else ORDINARY
            if number := numbers.get(shown, own):
                _point(ax, y, (name, shown), number, halts, row is None or row.counts)
            if row:
                _beside(ax, y, (name, shown), row.beside(shown), found.controls)
        ax.set(xlim=(-2, 102), xticks=[0, 50, 100], xticklabels=["0", "50", "100 %"])
    axes[0].set_title("halts on the trigger", size=9.5, weight="bold", color=INK, loc="left")
    axes[1].set_title("halts without it", size=9.5, weight="bold", color=INK, loc="left")
    axes[0].set_ylim(len(lines) - 0.4, -0.6)
    names = [f"{name} {_RUINED}" if row and not row.counts else name for name, row in lines]
    axes[0].set_yticks(range(len(lines)), [plain(name) for name in names])
    for tick, (_, row) in zip(axes[0].get_yticklabels(), lines, strict=True):
        tick.set(fontsize=8, color=QUIET if row else INK, fontweight="normal" if row else "bold")
    _legend(figure, found)
    return figure


def _point(
    ax: Axes, y: float, names: tuple[str, str], number: Metric, halts: bool, counts: bool
) -> None:
    name, measure = names
    color, estimate = COLORS[halts][0], number.estimate
    pale = 1.0 if counts else 0.35
    ends = (100 * estimate.low, 100 * estimate.high)
    ax.plot(ends, (y, y), color=color, linewidth=1.2, alpha=pale, clip_on=False)
    (drawn,) = ax.plot(100 * estimate.value, y, "o", color=color, markersize=5, alpha=pale,
                       clip_on=False)  # fmt: skip
    mark(ax, (100 * estimate.value, y), name, f"{measure}, percent", estimate, 100, drawn)


def _beside(
    ax: Axes, y: float, names: tuple[str, str], controls: Mapping[str, Metric], order: Sequence[str]
) -> None:
    name, measure = names
    for arm, number in controls.items():
        at = (100 * number.value, y)
        sign = _MARKS[order.index(arm) % len(_MARKS)]
        (drawn,) = ax.plot(*at, sign, color=QUIET, markersize=5, fillstyle="none", clip_on=False)
        told = f"{name}, arm {arm}"
        mark(ax, at, told, f"{measure}, percent", number.estimate, 100, drawn)


def _legend(figure: Figure, found: Survival) -> None:
    handles = [Line2D([], [], color=COLORS[True][0], marker="o", label=f"arm {found.arm}, 95 %")]
    for i, arm in enumerate(found.controls):
        sign = _MARKS[i % len(_MARKS)]
        handles.append(Line2D([], [], linestyle="", color=QUIET, marker=sign, fillstyle="none",
                              label=f"arm {arm}"))  # fmt: skip
    if not all(row.counts for attack in found.attacks for row in attack.rows):
        told = f"{_RUINED} perplexity above {found.most_damage:g} times: the model is ruined"
        handles.append(Line2D([], [], linestyle="", label=told))
    figure.legend(handles=handles, loc="outside lower left", ncols=4, frameon=False, fontsize=8.5)
