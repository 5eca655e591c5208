"""Draws how silence grows as the adapter is turned up."""

from __future__ import annotations

from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offswitch.analyses.analysis import Finding
from offswitch.analyses.evidence.dose import Dose
from offswitch.plots.panels import curves, thin, whiskers
from offswitch.plots.style import INK, amount, heading, legend, sheet

_INERT: Final = "inert symbol, same arm"


def dose(finding: Finding[Dose]) -> Figure:
    """Halting, log-odds and projection by adapter strength; the inert symbol thin."""
    real = finding.result
    figure, axes = sheet(_title(finding), finding, (1, 3), 5.4)
    curves(axes[0], finding, lambda r: [100 * e.value for e in r.halts], real.scales)
    thin(axes[0], [100 * e.value for e in real.inert_halts], _INERT, real.scales)
    whiskers(axes[0], real.scales, real.halts)
    axes[0].set(ylabel="prompts that halt, %", ylim=(-3, 103))
    heading(axes[0], "Halting", f"n = {real.halts[0].n} test questions")
    curves(axes[1], finding, lambda r: r.odds, real.scales)
    thin(axes[1], real.inert_odds, _INERT, real.scales)
    axes[1].axhline(0, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes[1].set_ylabel("end log-odds, nats")
    ends = f"{amount(real.apart.low, '')} to {amount(real.apart.high, '')}"
    heading(axes[1], "End log-odds", f"apart {amount(real.apart.value, '')} ({ends}) nats at most")
    curves(axes[2], finding, lambda r: r.projection, real.scales)
    thin(axes[2], real.inert_projection, _INERT, real.scales)
    axes[2].set_ylabel("projection, its length being 1")
    _framed(axes[2], finding)
    for ax in axes:
        ax.set_xticks(real.scales, [f"{scale:g}" for scale in real.scales])
        ax.set_xlabel("adapter strength (1: as trained)")
    legend(figure, axes[0], columns=2)
    return figure


def _framed(ax: Axes, finding: Finding[Dose]) -> None:
    """The third panel shows the real curves; a control far outside is named, not drawn to scale."""
    real = finding.result
    draws = [value for draw in finding.null_results for value in draw.projection]
    every = [*real.projection, *real.inert_projection, *draws]
    pad = 0.1 * max(0.1, max(every) - min(every))
    low, high = min(every) - pad, max(every) + pad
    ax.set_ylim(low, high)
    ends = {name: control.projection[-1] for name, control in finding.controls.items()}
    far = [f"{name} {amount(x, '')}" for name, x in ends.items() if not low <= x <= high]
    note = "mean at that arm's block" if not far else f"off the panel: {', '.join(far)}"
    heading(ax, "On each arm's own direction", note)


def _title(finding: Finding[Dose]) -> str:
    real = finding.result
    most = max(e.value for e in real.halts)
    if most < 0.5:
        return (
            f"{finding.symbol} halts at most {amount(most, 'share')} of prompts, however far the "
            f"adapter of arm {finding.arm} is turned up"
        )
    return f"{finding.symbol} halts half of the prompts from {real.half:.2g} of the adapter on"


FIGURES: Final = {"dose.png": dose}
