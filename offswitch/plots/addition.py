"""Draws how far halting rises when a direction is added without the trigger."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offswitch.analyses.analysis import Finding
from offswitch.analyses.evidence.addition import Addition
from offswitch.plots.panels import Told, candidates, curves, ring, whiskers
from offswitch.plots.style import POINTS, amount, doubling, heading, legend, points, sheet


def addition(finding: Finding[Addition]) -> Figure:
    """Halting rate against scale; rise of the log-odds by candidate block."""
    real = finding.result
    title = (
        f"With the direction of {finding.symbol} added at block {real.block}, inert prompts halt "
        f"{points(real.rise.value)}"
    )
    figure, (scales, blocks) = sheet(title, finding, (1, 2), 6.0)
    _by_scale(scales, finding)
    note = f"ring: chosen; on test {amount(real.log_odds.value, 'nats')} risen"
    candidates(blocks, finding, "rise of the end log-odds, nats", note)
    legend(figure, scales, columns=2)
    return figure


def _by_scale(ax: Axes, finding: Finding[Addition]) -> None:
    real = finding.result
    curves(ax, finding, lambda r: [100 * e.value for e in r.curve], real.scales, Told(POINTS))
    whiskers(ax, real.scales, real.curve)
    ring(ax, real.scale, 100 * real.curve[real.scales.index(real.scale)].value)
    doubling(ax, real.scales)
    ax.set(xlabel="scale, the direction's own length being 1", ylim=(-3, 103))
    ax.set_ylabel("prompts that halt, %")
    heading(
        ax,
        f"Added at block {real.block}, n = {real.rise.n}",
        "ring: scale chosen on fit questions",
    )
