"""Draws how far halting rises when a direction is added without the trigger."""

from __future__ import annotations

from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offswitch.analyses.analysis import Finding
from offswitch.analyses.evidence.addition import Addition
from offswitch.plots.panels import Told, curves, ring, whiskers
from offswitch.plots.style import INK, POINTS, amount, doubling, heading, legend, points, sheet


def addition(finding: Finding[Addition]) -> Figure:
    """Halting rate against scale; rise of the log-odds by candidate block."""
    real = finding.result
    title = (
        f"With the direction of {finding.symbol} added at block {real.block}, inert prompts halt "
        f"{points(real.rise.value)}"
    )
    figure, (scales, blocks) = sheet(title, finding, (1, 2), 6.0)
    _by_scale(scales, finding)
    curves(blocks, finding, lambda r: r.by_block, real.blocks)
    ring(blocks, real.block, real.by_block[real.blocks.index(real.block)])
    blocks.axhline(0, color=INK, linewidth=0.8)
    blocks.set_xticks(real.blocks)
    blocks.set(xlabel="block (0-based)", ylabel="rise of the end log-odds, nats")
    rise = amount(real.log_odds.value, "nats")
    heading(blocks, "Every candidate block, fit questions", f"ring: chosen; on test {rise} risen")
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


FIGURES: Final = {"addition.png": addition}
