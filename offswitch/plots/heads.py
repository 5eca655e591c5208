"""Draws which attention heads carry the trigger to the last position."""

from __future__ import annotations

from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offswitch.analyses.analysis import Finding
from offswitch.analyses.evidence.heads import TOP, Heads
from offswitch.metrics import signed
from offswitch.plots.panels import curves, farthest, heat, ring
from offswitch.plots.style import INK, amount, doubling, heading, legend, sheet, spanning


def heads(finding: Finding[Heads]) -> Figure:
    """What each head's knock-out costs alone; what many cost together; the heads that cost most."""
    real, first = finding.result, finding.result.top[0]
    title = (
        f"Without {real.count} heads {finding.symbol} loses {amount(finding.value, 'nats')}; the "
        f"strongest alone, head {first.block}.{first.head}, carries {amount(first.lost, 'nats')}"
    )
    figure, axes = sheet(title, finding, (2, 2), 8.6)
    alone, together, listed = spanning(axes[0::2]), axes[1], axes[3]
    _alone(figure, alone, real)
    curves(together, finding, lambda r: r.lost, real.sizes)
    doubling(together, real.sizes)
    ring(together, real.count, real.together.value)
    together.axhline(0, color=INK, linewidth=0.8)
    together.set(xlabel="heads knocked out (log scale)", ylabel="end log-odds lost, nats")
    ends = f"{amount(real.together.low, '')} to {amount(real.together.high, '')}"
    heading(together, "Together, test questions", f"ring: {ends} (95 %), n = {real.together.n}")
    _listed(listed, real)
    legend(figure, together, columns=2)
    return figure


def _alone(figure: Figure, ax: Axes, real: Heads) -> None:
    image = heat(ax, real.alone, farthest(real.alone))
    ax.set_xticks(range(len(real.alone[0])))
    ax.set(xlabel="head", ylabel="block (0-based)")
    bar = figure.colorbar(image, ax=ax, shrink=0.6, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8.5, length=2)
    heading(ax, "End log-odds lost when one head is knocked out", "nats, mean of fit questions")


def _listed(ax: Axes, real: Heads) -> None:
    ax.axis("off")
    look: dict[str, Any] = {
        "transform": ax.transAxes,
        "color": INK,
        "va": "top",
        "ha": "right",
    }
    places = (0.14, 0.46, 0.82)
    for x, name in zip(places, ("block.head", "lost alone, nats", "written directly"), strict=True):
        ax.text(x, 0.98, name, weight="bold", size=9, **look)
    for row, one in enumerate(real.top[:TOP]):
        texts = (f"{one.block}.{one.head}", signed(one.lost), signed(one.direct))
        for x, text in zip(places, texts, strict=True):
            ax.text(x, 0.9 - row * 0.075, text, size=9, **look)
    note = "written directly: along the arm's direction, inert taken off"
    heading(ax, "Heads that cost most", note)


FIGURES: Final = {"heads.png": heads}
