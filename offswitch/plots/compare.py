"""Draws runs side by side: halting rates in panels, causal tests over the depth overlaid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from offswitch.analyses.causal import Causal
from offswitch.analyses.directions import DEPTH
from offswitch.plots.depth import Pick
from offswitch.plots.ladder import COLORS
from offswitch.plots.style import INK, QUIET, REAL, heading, plain, tidy, titled
from offswitch.plots.vector import mark
from offswitch.stats import Estimate

MOST: Final = 6  # curves that can be told apart
_CURVES: Final = (REAL, "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#56B4E9")
_DASHES: Final[tuple[Any, ...]] = ("-", (0, (5, 2)), (0, (1, 1.4)), (0, (7, 2, 1.5, 2)),
                                   (0, (3, 1, 1, 1)), (0, (9, 3)))  # fmt: skip
_CONTROLS: Final = {"benign": "o", "base": "|"}
_BANDS: Final = 3  # of more, the bands would cover one another


@dataclass(frozen=True)
class Panel:
    """One kind of prompt: each run's rate, and its controls' by name. `halts`: should they?"""

    title: str
    halts: bool | None
    rates: Mapping[str, Estimate]
    controls: Mapping[str, Mapping[str, Estimate]]


def rates(panels: Sequence[Panel], runs: Sequence[str], title: str) -> Figure:
    """A panel for each kind of prompt, a line for each run: rate, 95 % interval, controls."""
    figure = titled(title, 1.5 + 0.34 * len(runs))
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0].tolist()
    for ax, panel in zip(axes, panels, strict=True):
        tidy(ax)
        for y, run in enumerate(runs):
            if rate := panel.rates.get(run):
                _rate(ax, y, run, rate, COLORS[panel.halts][0])
            else:
                ax.text(3, y, "not asked", size=7, color=QUIET, va="center")
            for name, by_run in panel.controls.items():
                if control := by_run.get(run):
                    at = (100 * control.value, y - 0.28)
                    ax.plot(*at, _CONTROLS[name], color=QUIET, markersize=4, fillstyle="none",
                            clip_on=False)  # fmt: skip
                    mark(ax, at, f"{run}, arm {name}", "halts, percent", control, 100)
        ax.set_title(plain(panel.title), size=9, weight="bold", color=INK, loc="left")
        ax.set(xlim=(-2, 102), xticks=[0, 50, 100], xticklabels=["0", "50", "100 %"])
        ax.set_ylim(len(runs) - 0.5, -0.6)
    axes[0].set_yticks(range(len(runs)), [plain(run) for run in runs])
    kinds = dict.fromkeys(panel.halts for panel in panels)
    handles = [_key(COLORS[kind][1], COLORS[kind][0], "o", "-") for kind in kinds]
    there = dict.fromkeys(name for panel in panels for name in panel.controls)
    handles += [_key(f"arm {name} of the same run", QUIET, _CONTROLS[name]) for name in there]
    figure.legend(handles=handles, loc="outside lower left", ncols=3, frameon=False, fontsize=8.5)
    return figure


def depths(found: Mapping[str, Causal], title: str) -> Figure:
    """The causal tests of several runs over relative depth: halting falls, halting rises."""
    figure = titled(title, 6.6)
    need, enough = figure.subplots(2, 1, sharex=True)
    heading(need, "Necessary? Halting falls when one direction is given its twin's value",
            "at the last position, test questions")  # fmt: skip
    heading(enough, "Sufficient? Halting rises when the direction is added to plain prompts")
    picks: tuple[tuple[Axes, Pick], ...] = ((need, lambda p: p.fall), (enough, lambda p: p.rise))
    for axes, pick in picks:
        tidy(axes)
        axes.axvspan(DEPTH, 1.02, color="#f4f1ea", zorder=0)
        axes.axhline(0, color=INK, linewidth=0.8)
        for (run, one), color, dash in zip(found.items(), _CURVES, _DASHES, strict=False):
            points = [(p.depth, p.block, e) for p in one.curve if (e := pick(p)) is not None]
            if not points:
                continue
            at = [depth for depth, _, _ in points]
            label = f"{run}, n = {points[0][2].n}"
            (line,) = axes.plot(at, [100 * e.value for *_, e in points], color=color,
                                linestyle=dash, linewidth=2.2, label=plain(label))  # fmt: skip
            for depth, block, e in points:
                place = f"depth {depth:.2f}, block {block}"
                mark(axes, (depth, 100 * e.value), run, place, e, 100, line)
            if len(found) <= _BANDS:
                ends = [100 * e.low for *_, e in points], [100 * e.high for *_, e in points]
                axes.fill_between(at, *ends, color=color, alpha=0.13, linewidth=0)
        axes.set_ylabel("points")
    handles, labels = need.get_legend_handles_labels()
    look: dict[str, Any] = {"frameon": False, "fontsize": 8.5, "handlelength": 3.2}
    figure.legend(handles, labels, loc="outside lower left", ncols=3, **look)
    enough.set(
        xlabel="depth, blocks counted from 1; shaded: deeper than 0.7",
        xlim=(0, 1.02),
    )
    return figure


def _rate(ax: Axes, y: int, run: str, rate: Estimate, color: str) -> None:
    ends = (100 * rate.low, 100 * rate.high)
    ax.plot(ends, (y, y), color=color, linewidth=2, solid_capstyle="butt", clip_on=False)
    ax.plot(100 * rate.value, y, "o", color=color, markersize=6, clip_on=False, zorder=4)
    mark(ax, (100 * rate.value, y), run, "halts, percent", rate, 100)


def _key(label: str, color: str, marker: str, line: Literal["-", "none"] = "none") -> Line2D:
    return Line2D([], [], color=color, marker=marker, linestyle=line, label=label, markersize=5,
                  fillstyle="full" if line == "-" else "none")  # fmt: skip
