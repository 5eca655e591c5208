"""Draws the causal tests over the depth: necessity, sufficiency, the same vector elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offswitch.analyses.candidates import MEAN, TRAINED
from offswitch.analyses.causal import Causal, Point
from offswitch.analyses.directions import early
from offswitch.metrics import listed
from offswitch.plots.style import BAND, INK, QUIET, REAL, heading, plain, tidy, titled
from offswitch.plots.vector import mark
from offswitch.stats import Estimate

Pick = Callable[[Point], Estimate | None]
_THICK: Final[dict[str, Any]] = {"linewidth": 2.6}
_DASHED: Final[dict[str, Any]] = {"linestyle": (0, (4, 2))}
_DOTTED: Final[dict[str, Any]] = {"linestyle": (0, (1, 1.5))}
_OTHERS: Final = ("#D55E00", "#009E73", "#CC79A7", "#B8860B")


def depth(found: Causal, kind: str) -> Figure:
    """Three panels over the blocks: falls and rises of halting in points, rises in nats."""
    figure = titled(f"Arm {found.arm}: {kind}. One direction, block by block", 9.6)
    need, enough, nats = figure.subplots(3, 1, sharex=True)
    name = found.places[0].direction if found.places else MEAN
    name = f"{name} where chosen, else {MEAN}" if name == TRAINED else name
    for axes in (need, enough, nats):
        tidy(axes)
        axes.axvspan(early(found.blocks) - 0.5, found.blocks - 0.5, color="#f4f1ea", zorder=0)
        axes.axhline(0, color=INK, linewidth=0.8)
    one, whole = {"color": REAL}, {"color": QUIET}
    curves: list[tuple[str, Pick, dict[str, Any]]] = [
        (f"one direction ({name}), last position", lambda p: p.fall, one | _THICK),
        ("one direction, after the symbol", lambda p: p.after, one | _DASHED),
        ("one direction, at the symbol", lambda p: p.symbol, one | _DOTTED),
        ("whole residual, last position", lambda p: p.whole, whole),
        ("whole residual, after the symbol", lambda p: p.whole_after, whole | _DASHED),
        ("whole residual, at the symbol", lambda p: p.whole_symbol, whole | _DOTTED),
    ]
    for label, pick, look in curves:
        _curve(need, found.curve, pick, label, look, 100)
    heading(need, "Necessary? Halting falls when the trigger's prompt is given its twin's value",
            _told(found, "n = {} test prompts", lambda p: p.fall))  # fmt: skip
    need.set_ylabel("points")
    scale = found.places[0].scale if found.places else 1.0
    _curve(enough, found.curve, lambda p: p.rise, f"added to plain prompts, scale {scale:g}",
           {"color": REAL, "linewidth": 2.6}, 100)  # fmt: skip
    heading(enough, "Sufficient? Halting rises when the direction is added to plain prompts",
            _told(found, "n = {} plain prompts", lambda p: p.rise))  # fmt: skip
    enough.set_ylabel("points")
    _elsewhere(nats, found)
    for axes in (need, enough, nats):
        axes.legend(loc="best", frameon=False, fontsize=8.5)
    nats.set(xlabel="block (0-based); shaded: deeper than 0.7, where blocks write to the output",
             xlim=(-0.5, found.blocks - 0.5))  # fmt: skip
    return figure


def _elsewhere(axes: Axes, found: Causal) -> None:
    """Rises of the log-odds by the same vector in this arm and in others, and null bands.

    Null directions were added at the scale of their place, curves are at full length: bands stand
    where both are the same.
    """
    _curve(
        axes,
        found.curve,
        lambda p: p.nats,
        f"arm {found.arm}",
        {"color": REAL, "linewidth": 2.6},
        1,
    )
    others = dict.fromkeys(arm for point in found.curve for arm in point.elsewhere)
    for arm, color in zip(others, _OTHERS, strict=False):
        what = "untrained model" if arm == "base" else f"arm {arm}"

        def there(point: Point, arm: str = arm) -> Estimate | None:
            return point.elsewhere.get(arm)

        _curve(axes, found.curve, there, what, {"color": color, "linewidth": 1.8}, 1)
    label: str | None = "null directions, 95 % point"
    below = "rise of the end log-odds on plain prompts"
    nulled = [place for place in found.places if place.rise_null]
    for place in nulled:
        for null in place.rise_null.values() if place.scale == 1 else ():
            at = place.point.block
            axes.bar(at, null.q95, 0.7, color=BAND, zorder=1, label=label)
            label = None
    if shorter := [f"scale {p.scale:g} at block {p.point.block}" for p in nulled if p.scale != 1]:
        below += f"; null directions of {listed(shorter)} are not drawn"
    heading(
        axes, "More than the plan to end? The same vector, at its full length, elsewhere", below
    )
    axes.set_ylabel("nats")


def _curve(
    axes: Axes, points: Sequence[Point], pick: Pick, label: str, look: dict[str, Any], unit: float
) -> None:
    """Estimates over the blocks with their intervals as a band; absent ones are left out."""
    found = [(point.block, e) for point in points if (e := pick(point)) is not None]
    if not found:
        return
    blocks = [block for block, _ in found]
    (line,) = axes.plot(blocks, [unit * e.value for _, e in found], label=plain(label), **look)
    for block, e in found:
        mark(axes, (block, unit * e.value), label, f"block {block}", e, unit, line)
    if look.get("linewidth", 0) > 2:
        ends = [unit * e.low for _, e in found], [unit * e.high for _, e in found]
        axes.fill_between(blocks, *ends, color=look["color"], alpha=0.15, linewidth=0)


def _told(found: Causal, text: str, pick: Pick) -> str:
    counts = [e.n for point in found.curve if (e := pick(point)) is not None]
    return text.format(counts[0]) if counts else "not tried"
