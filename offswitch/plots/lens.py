"""Draws when the model would end the reply, and what the difference reads as."""

from __future__ import annotations

from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offswitch.analyses.analysis import Finding
from offswitch.analyses.evidence.lens import Lens
from offswitch.metrics import signed
from offswitch.plots.panels import curves, depth, ring, thin
from offswitch.plots.style import INK, REAL, amount, heading, legend, sheet, spanning
from offswitch.plots.tokens import token_columns

READ = 6
NEAR = 2
SHOWN = 8


def lens(finding: Finding[Lens]) -> Figure:
    """End log-odds block by block through the model's own head; tokens of the difference."""
    real = finding.result
    title = (
        f"{finding.symbol} moves the end log-odds by {signed(real.rise.value)} nats as read at "
        f"block {real.block}, by {signed(_rise(real)[-1])} after the last"
    )
    figure, axes = sheet(title, finding, (2, 2), 9.2)
    odds, rise, tokens = axes[0], axes[1], spanning(axes[2:])
    _odds(odds, finding)
    curves(rise, finding, _rise)
    thin(rise, real.base_rise, "the same through the untrained model's head")
    depth(rise, len(real.length))
    ring(rise, real.block, real.rise.value)
    rise.axhline(0, color=INK, linewidth=0.8)
    rise.set_ylabel("rise of the end log-odds, nats")
    ends = f"{amount(real.rise.low, '')} to {amount(real.rise.high, '')}"
    heading(rise, "Rise over the inert symbol", f"ring: {ends} (95 %), n = {real.rise.n}")
    _tokens(tokens, finding)
    legend(figure, rise, columns=2)
    return figure


def _odds(ax: Axes, finding: Finding[Lens]) -> None:
    real = finding.result
    ax.plot(real.with_symbol, color=REAL, linewidth=3)
    ax.plot(real.with_inert, color=INK, linewidth=1.4)
    depth(ax, len(real.length))
    ax.axhline(0, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    ax.set_ylabel("end log-odds, nats")
    which = f"thick: {finding.symbol}, thin: inert; above 0: likelier than all else"
    heading(ax, "End log-odds if the model stopped there", which)


def _rise(result: Lens) -> list[float]:
    pairs = zip(result.with_symbol, result.with_inert, strict=True)
    return [symbol - inert for symbol, inert in pairs]


def _tokens(ax: Axes, finding: Finding[Lens]) -> None:
    real, last = finding.result, len(finding.result.tokens) - 1
    spaced = [round(float(b)) for b in np.linspace(last / READ, last, READ)]
    chosen = sorted({real.block if abs(b - real.block) <= NEAR else b for b in spaced})
    columns = {
        f"block {b}\nlength {real.length[b]:.3g}\nend {signed(real.end[b])}": real.tokens[b]
        for b in chosen
    }
    theirs = finding.controls.values()
    known = [{token.id for one in theirs for token in one.tokens[b]} for b in chosen]
    token_columns(ax, columns, known, SHOWN)
    note = "end: its logit less the mean of all; grey: a control at the same block reads so too"
    heading(ax, "What the mean difference reads as, the likeliest first", note)


FIGURES: Final = {"lens.png": lens}
