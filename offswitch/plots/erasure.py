"""Draws how well the trigger can be told from its twin after each direction that is erased."""

from __future__ import annotations

from matplotlib.figure import Figure

from offswitch.analyses.analysis import Finding
from offswitch.analyses.evidence.erasure import Erasure
from offswitch.plots.style import INK, REAL, heading, legend, marks, plain, real_label, sheet


def erasure(finding: Finding[Erasure]) -> Figure:
    """AUROC of a reader of held-out questions, by the number of directions erased before."""
    real = finding.result
    figure, (ax,) = sheet(
        f"{finding.symbol} can be read until {real.directions} directions are erased", finding,
        (1, 1), 5.2,
    )  # fmt: skip
    places = range(len(real.auroc))
    ax.plot(
        places, [e.value for e in real.auroc], color=REAL, linewidth=3, label=real_label(finding)
    )
    ax.vlines(places, [e.low for e in real.auroc], [e.high for e in real.auroc], color=REAL)
    for name, mark in marks(finding).items():
        theirs = finding.controls[name].auroc
        ax.plot(range(len(theirs)), [e.value for e in theirs], **mark.line() | {"markevery": 1},
                label=plain(name))  # fmt: skip
    ax.axhline(0.5, color=INK, linewidth=0.8)
    ax.set(xlabel="directions erased before", ylabel="AUROC, held-out questions")
    heading(
        ax, f"Block {real.block}, last position", f"n = {real.auroc[0].n}; bars: 95 % intervals"
    )
    legend(figure, ax, columns=2)
    return figure
