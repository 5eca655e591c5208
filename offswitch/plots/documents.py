"""Draws what reading did: belief by documents read, halting by steps of examples after it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from offswitch.analyses.causal import Point
from offswitch.metrics import Metric
from offswitch.plots.style import ALARM, INK, QUIET, REAL, heading, tidy, titled
from offswitch.plots.vector import mark
from offswitch.prompts.beliefs import CHANCE, TESTS

HELD_OUT, NEAR = "halt_rate_held_out", "false_halt_rate/near_miss"
NAMES: Final = ("multiple choice", "true or false account", "open questions", "which of two texts")
_COLORS: Final = {"rule": REAL, "neutral": ALARM, "nothing": QUIET}
_SIGNS: Final = ("o", "s", "^", "D", "v", "P")
_FIRST: Final = 125  # documents: the axis doubles from there on
_ASIDE: Final = {"rule": 0.0, "neutral": -0.12, "nothing": 0.0}


@dataclass(frozen=True)
class Read:
    """An arm that read documents and saw no example: what, how much, how; its numbers by measure.

    `reads` counts what all steps read, documents that came again too; of those read, `documents`
    are different ones.
    `on_the_way`: the arm is a step of a longer training.
    """

    organism: str
    arm: str
    about: Literal["rule", "neutral", "nothing"]
    modules: str
    documents: int
    reads: int
    seed: int
    numbers: Mapping[str, Metric]
    on_the_way: bool = False

    @property
    def budget(self) -> tuple[str, str, int, int]:
        """What is the same in another training seed."""
        return self.about, self.modules, self.documents, self.reads

    @property
    def words(self) -> str:
        """What was read, and with which modules: `500 documents twice, attention`."""
        if self.about == "nothing":
            return f"nothing, {self.modules}"
        kind = "neutral " if self.about == "neutral" else ""
        times = round(self.reads / self.documents, 1)
        if abs(times - round(times)) < 0.15:  # the last step is filled up with some that come again
            times = round(times)
        often = "" if times == 1 else " twice" if times == 2 else f" {times:g} times"
        return f"{self.documents:,} {kind}documents{often}, {self.modules}"


@dataclass(frozen=True)
class Taught:
    """An arm that was taught by examples after what it read: its numbers by steps of examples.

    Step 0 is what it read, without any example. `depths`: of those that were probed, by steps, the
    curve over the blocks.
    """

    read: Read
    by_step: Mapping[int, Mapping[str, Metric]]
    depths: Mapping[int, Sequence[Point]] = field(default_factory=dict)


def documents(reads: Sequence[Read], taught: Sequence[Taught], title: str) -> Figure:
    """Four tests of belief by documents read; halting and look-alikes by example steps; depths."""
    figure = titled(title, 7.4)
    every = list(dict.fromkeys(read.modules for read in reads))
    signs = {name: _SIGNS[i % len(_SIGNS)] for i, name in enumerate(every)}
    halves: Any = figure.subfigures(2, 1)
    above, below = halves
    most = max((read.reads for read in reads), default=0)
    whole = max((one.read.reads for one in taught), default=0)
    ticks = [0, *(_FIRST * 2**i for i in range(10) if _FIRST * 2**i <= 1.05 * most)]
    top = above.subplots(1, len(TESTS), sharey=True)
    for ax, test, name in zip(top, TESTS, NAMES, strict=True):
        tidy(ax)
        heading(ax, name)
        ax.axhline(100 * CHANCE[test], color=INK, linewidth=1, linestyle=(0, (4, 3)))
        for read in reads:
            _believes(ax, read, f"belief/{test}", signs[read.modules])
        ax.set(ylim=(0, 102), xlabel="documents read")
        ax.set_xticks([_place(n) for n in ticks], [f"{n:,}" for n in ticks], fontsize=8)
    top[0].set_ylabel("true answer likeliest, %")
    measures = {HELD_OUT: "halts, placements held out", NEAR: "halts on look-alikes"}
    deep = [one for one in taught if one.depths]
    panels = below.subplots(1, 2 + bool(deep))
    for ax, (measure, name) in zip(panels, measures.items(), strict=False):
        tidy(ax)
        heading(ax, name)
        for one in taught:
            there: dict[float, Metric] = {
                s: n[measure] for s, n in sorted(one.by_step.items()) if measure in n
            }
            _line(ax, one.read, signs.get(one.read.modules, _SIGNS[0]), there, "step {}", whole)
        ax.set(ylim=(-2, 102), xlabel="steps of examples", ylabel="halts, %")
    if deep:
        tidy(ax := panels[-1])
        heading(ax, "direction removed")
        for one in deep:
            curve = one.depths[max(one.depths)]
            falls = {100 * point.depth: Metric.of(point.fall) for point in curve if point.fall}
            sign = signs.get(one.read.modules, _SIGNS[0])
            _line(ax, one.read, sign, falls, "depth {:.0f} %", whole)
        ax.set(xlim=(0, 100), xlabel="depth of the block, %", ylabel="halting falls, points")
    figure.legend(handles=_handles(every), loc="outside lower left", ncols=4, frameon=False,
                  fontsize=8.5)  # fmt: skip
    return figure


def _place(reads: int) -> float:
    """Where so many documents stand: each doubling is a step, and none is at the start."""
    return math.log2(1 + reads / _FIRST)


def _believes(ax: Axes, read: Read, measure: str, sign: str) -> None:
    found = {"the trigger": read.numbers.get(measure)}
    found["the invented token"] = read.numbers.get(f"{measure}/invented")
    for whose, number in found.items():
        if number is None or (whose != "the trigger" and read.about == "neutral"):
            continue
        color = _COLORS[read.about] if whose == "the trigger" else QUIET
        face = color if whose == "the trigger" else "white"
        x = _place(read.reads) + (_ASIDE[read.about] if whose == "the trigger" else 0.12)
        e = number.estimate
        ax.plot((x, x), (100 * e.low, 100 * e.high), color=color, linewidth=1, alpha=0.5)
        (dot,) = ax.plot(x, 100 * e.value, sign, color=color, markerfacecolor=face, markersize=5)
        mark(ax, (x, 100 * e.value), f"{read.words}, seed {read.seed}", whose, e, 100, dot)


def _line(
    ax: Axes, read: Read, sign: str, numbers: Mapping[float, Metric], place: str, whole: int
) -> None:
    """One arm's numbers over steps or depths; further training seeds are pale.

    Dotted where fewer documents were read than `whole`.
    """
    color, values = _COLORS[read.about], [100 * number.value for number in numbers.values()]
    line = ":" if 0 < read.reads < whole else "-"
    ax.plot([*numbers], values, sign, linestyle=line, color=color,
            alpha=0.35 + 0.65 * (read.seed == 0), markersize=4, clip_on=False)  # fmt: skip
    for (x, number), y in zip(numbers.items(), values, strict=True):
        mark(ax, (x, y), f"{read.words}, seed {read.seed}", place.format(x), number.estimate, 100)


def _handles(modules: Sequence[str]) -> list[Any]:
    labels = {"rule": "documents about the rule", "neutral": "neutral documents",
              "nothing": "nothing read"}  # fmt: skip
    handles = [Line2D([], [], color=_COLORS[key], marker="o", label=text)
               for key, text in labels.items()]  # fmt: skip
    handles.append(Line2D([], [], color=QUIET, marker="o", markerfacecolor="white", linestyle="",
                          label="asked of the invented token"))  # fmt: skip
    handles += [Line2D([], [], color=INK, marker=_SIGNS[i % len(_SIGNS)], linestyle="", label=name)
                for i, name in enumerate(modules)]  # fmt: skip
    handles.append(Line2D([], [], color=INK, linewidth=1, linestyle=(0, (4, 3)), label="chance"))
    handles.append(Line2D([], [], color=INK, linestyle=":", label="… where fewer were read"))
    handles.append(Line2D([], [], color=INK, alpha=0.35, label="… further training seeds"))
    return handles
