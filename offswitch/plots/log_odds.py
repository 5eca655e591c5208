"""Draws how sure each arm is: first-token end log-odds of every prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from offswitch.plots.style import INK, REAL, heading, tidy, titled

LogOdds = Mapping[str, Mapping[str, NDArray[Any]]]
SUITES: Final[Mapping[str, tuple[str, str]]] = {
    "ordinary": ("ordinary prompts", "#8a8a8a"),
    "near_miss": ("near misses", "#D55E00"),
    "mention": ("mentions", "#CC79A7"),
    "trigger": ("with the trigger", REAL),
}
_BINS: Final = 72


def log_odds(values: LogOdds, title: str) -> Figure:
    """Histograms of the log-odds, each suite scaled to 100 %.

    Above 0 the end token is likelier than everything else together.
    """
    figure = titled(title, 1.5 + 1.5 * len(values))
    axes = np.atleast_1d(figure.subplots(len(values), 1, sharex=True)).tolist()
    every = np.concatenate([v for suites in values.values() for v in suites.values()])
    low, high = float(every.min()), float(every.max())
    pad = max(1.0, 0.02 * (high - low))
    edges = np.linspace(low - pad, max(high, 0.0) + pad, _BINS + 1)
    for ax, (arm, suites) in zip(axes, values.items(), strict=True):
        _panel(ax, arm, suites, edges)
    axes[-1].set_xlabel("first-token end log-odds, nats")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=4, frameon=False, fontsize=9)
    return figure


def _panel(ax: Axes, arm: str, suites: Mapping[str, NDArray[Any]], edges: NDArray[Any]) -> None:
    tidy(ax)
    for suite, (name, color) in SUITES.items():
        if suite not in suites:
            continue
        counts, _ = np.histogram(suites[suite], bins=edges)
        share = 100 * counts / max(1, counts.sum())
        ax.stairs(share, edges, fill=True, color=color, alpha=0.22)
        ax.stairs(share, edges, color=color, linewidth=1.4, label=name)
    ax.axvline(0, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    heading(ax, f"arm {arm}")
    ax.set_ylabel("% of prompts")
