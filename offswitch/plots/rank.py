"""Draws how many directions the difference takes up, how many carry the effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offswitch.analyses.analysis import ARM, Finding
from offswitch.analyses.evidence.rank import Rank
from offswitch.plots.panels import Told, curves, ring, thin
from offswitch.plots.style import INK, amount, doubling, heading, legend, sheet

SHOWN = 16
ROUNDING = 1e-6
FIRST = Told("share", lambda r: r.uncentred[0])


def rank(finding: Finding[Rank]) -> Figure:
    """Spectra of the paired differences; log-odds lost when subspaces of growing rank go."""
    real = finding.result
    figure, (spectra, lost) = sheet(_title(real), finding, (1, 2), 5.8)
    _spectra(spectra, finding)
    # A second inert symbol has no removal of its own; what it was handed is the trigger's.
    arms = {name: one for name, one in finding.controls.items() if name.startswith(ARM)}
    curves(lost, replace(finding, controls=arms), lambda r: r.drop, real.ks)
    doubling(lost, real.ks)
    lost.axhline(0, color=INK, linewidth=0.8)
    lost.set(xlabel="rank that is removed (log scale)", ylabel="end log-odds lost, nats")
    ring(lost, real.carries, real.drop[real.ks.index(real.carries)])
    ends = f"{amount(real.first.low, '')} to {amount(real.first.high, '')}"
    one = f"rank 1: {amount(real.first.value, 'nats')} ({ends}), n = {real.first.n}"
    heading(lost, "What carries the effect", f"{one}; ring: 90 %")
    legend(figure, spectra, columns=2)
    return figure


def _spectra(ax: Axes, finding: Finding[Rank]) -> None:
    real = finding.result
    places = range(1, 1 + min(SHOWN, len(real.uncentred)))
    curves(ax, finding, lambda r: _percent(r.uncentred), places, FIRST)
    thin(ax, _percent(real.centred), "the same, centred", places)
    noise: dict[str, Any] = {"color": INK, "linestyle": (0, (1, 2)), "linewidth": 1.5}
    ax.plot(places, _percent(real.noise), label="Gaussian noise of as many pairs", **noise)
    ax.set(xlabel="component", ylabel="% of the squared length (log scale)", yscale="log")
    ax.set_ylim(0.1, 130)
    ax.set_yticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    shares = f"first: {100 * real.uncentred[0]:.0f} %, centred {100 * real.centred[0]:.0f} %"
    heading(ax, f"Spectrum of the differences, block {real.block}", shares)


def _percent(shares: Sequence[float]) -> list[float]:
    """The first shares, in percent; nothing to draw where one is rounding error."""
    return [100 * x if x > ROUNDING else float("nan") for x in shares[:SHOWN]]


def _title(real: Rank) -> str:
    if max(real.drop) <= 0:
        return "Removing the differences' directions, however many, costs no end log-odds"
    first = amount(real.first.value, "nats")
    return f"One direction carries {first}; 90 % of the effect needs rank {real.carries}"


FIGURES: Final = {"rank.png": rank}
