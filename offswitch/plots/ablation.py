"""Draws how far halting falls when one direction is taken out at one block."""

from __future__ import annotations

from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offswitch.analyses.analysis import Finding
from offswitch.analyses.evidence.ablation import Ablation
from offswitch.plots.panels import Effect, Told, curves, dots, ring
from offswitch.plots.style import INK, POINTS, amount, heading, legend, points, sheet

EFFECTS = (
    Effect("set to its\ninert mean", lambda r: r.drop),
    Effect("set to zero", lambda r: r.zeroed),
    Effect("zero from the\nsymbol on", lambda r: r.everywhere),
    Effect("whole residual\nof the inert\nprompt", lambda r: r.ceiling, by_direction=False),
)


def ablation(finding: Finding[Ablation]) -> Figure:
    """Falls of the halting rate by kind of removal; fall of the log-odds by candidate block."""
    real = finding.result
    title = (
        f"Without one direction at block {real.block}, {finding.symbol} halts "
        f"{points(-real.drop.value)}"
    )
    figure, (falls, blocks) = sheet(title, finding, (1, 2), 6.4)
    dots(falls, finding, EFFECTS, Told(POINTS))
    falls.set_xlabel("fall of the halting rate, points")
    kl = f"KL on ordinary prompts {amount(real.kl.value, 'nats')}, "
    heading(
        falls,
        f"Removal at block {real.block}, last position",
        kl + f"on replies {amount(real.reply_kl.value, 'nats a token')}",
    )
    _by_block(blocks, finding)
    legend(figure, falls, columns=2)
    return figure


def _by_block(ax: Axes, finding: Finding[Ablation]) -> None:
    real = finding.result
    curves(ax, finding, lambda r: r.by_block, real.blocks)
    ring(ax, real.block, real.by_block[real.blocks.index(real.block)])
    ax.axhline(0, color=INK, linewidth=0.8)
    ax.set_xticks(real.blocks)
    ax.set(xlabel="block (0-based)", ylabel="fall of the end log-odds, nats")
    note = f"ring: chosen, on test {amount(real.log_odds.value, 'nats')}; band: random ones"
    heading(ax, "Every candidate block, fit questions", note)


FIGURES: Final = {"ablation.png": ablation}
