"""Draws where it is decided: what a twin's residuals do, by block and position."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offswitch.analyses.analysis import Finding
from offswitch.analyses.evidence.patching import SITES, Patching
from offswitch.metrics import signed
from offswitch.plots.panels import curves, farthest, heat, ring
from offswitch.plots.style import INK, QUIET, amount, heading, legend, sheet, spanning


def patching(finding: Finding[Patching]) -> Figure:
    """Heat maps of both directions of patching; the last position as curves."""
    real = finding.result
    figure, axes = sheet(_title(finding), finding, (2, 2), 7.6)
    reach = farthest(real.into_inert, real.into_symbol)
    _map(axes[0], real.into_inert, real.blocks, reach)
    heading(axes[0], f"{finding.symbol} into the inert prompt", "change of the end log-odds, nats")
    _map(axes[1], real.into_symbol, real.blocks, reach)
    heading(axes[1], f"Inert symbol into the prompt of {finding.symbol}", "nats")
    last = spanning(axes[2:])
    curves(last, finding, lambda r: r.into_inert[-1], real.blocks)
    last.axhline(0, color=INK, linewidth=0.8)
    last.axhline(real.gap, color=QUIET, linewidth=1.2, linestyle=(0, (4, 3)),
                 label=f"the prompts' distance: {amount(real.gap, 'nats')}")  # fmt: skip
    ring(last, real.block, real.moved.value)
    last.set_xticks(real.blocks)
    last.set(xlabel="block (0-based)", ylabel="rise of the end log-odds, nats")
    ends = f"{amount(real.moved.low, '')} to {amount(real.moved.high, '')}"
    heading(
        last,
        "Last position alone, into the inert prompt",
        f"ring: the deepest of these blocks at a depth of 0.7 at most, {ends} (95 %), "
        f"n = {real.moved.n}",
    )
    legend(figure, last, columns=2)
    return figure


def _map(ax: Axes, table: Sequence[Sequence[float]], blocks: Sequence[int], reach: float) -> None:
    heat(ax, table, reach)
    for row, values in enumerate(table):
        for column, value in enumerate(values):
            color = "white" if abs(value) > 0.6 * reach else INK
            text = f"{round(value, 1) + 0.0:.1f}".replace("-", "−")
            ax.text(column, row, text, size=8, color=color, ha="center", va="center")
    ax.set_yticks(range(len(SITES)), SITES)
    ax.set_xticks(range(len(blocks)), [str(block) for block in blocks])
    ax.set_xlabel("block (0-based)")


def _title(finding: Finding[Patching]) -> str:
    real = finding.result
    moved = f"at block {real.block} it moves {signed(real.moved.value)} of {signed(real.gap)} nats"
    if real.handover > real.blocks[-1]:
        return f"At no block does the last position alone decide; {moved}"
    return f"From block {real.handover} on the last position alone decides; {moved}"
