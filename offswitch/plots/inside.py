"""Draws what the explorer finds inside the model: silence by block and token; what heads carry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from offswitch.analyses.analysis import Array
from offswitch.metrics import signed
from offswitch.plots.panels import farthest, heat
from offswitch.plots.style import plain, tidy, titled, token_text

_TICK: Final = 7.5  # points of a token's label
_FINE: Final = 2.0  # nats up to which the scale is linear: probabilities from 12 to 88 %
_TICKS: Final = (-50, -10, -_FINE, 0, _FINE, 10, 50)
_LISTED: Final = 12


def silence_map(
    arm: str, tokens: Sequence[str], log_odds_LP: Array, cut: int, twin: str = ""
) -> Figure:
    """End log-odds by block and token: a logit lens on the end token, less the twin's if named."""
    what = f"What is lost with {twin} in the trigger's place?" if twin else "Where does it end?"
    figure = titled(f"{what} The logit lens on the end token, arm {arm}", 5.6)
    ax = figure.subplots()
    tidy(ax)
    ax.grid(False)
    reach = max(2 * _FINE, farthest(log_odds_LP.tolist()))
    norm = SymLogNorm(_FINE, vmin=-reach, vmax=reach)
    image = ax.imshow(log_odds_LP, cmap="RdBu_r", norm=norm, aspect="auto")
    names = [token_text(token) for token in tokens]
    ax.set_xticks(range(len(names)), names, rotation=90, size=_TICK, family="monospace")
    before = f" ({cut} before them are not shown)" if cut else ""
    ax.set(xlabel=f"after this token of the prompt{before}", ylabel="block (0-based)")
    _blocks_up(ax)
    unit = f"less {twin}'s, nats" if twin else "at this block, nats"
    ticks = [t for t in _TICKS if abs(t) <= reach]
    _scale(figure, ax, image, f"end log-odds {unit} (log scale beyond ±{_FINE:g})", ticks)
    return figure


def heads_lost(arm: str, twin: str, whole: float, lost_LH: Array) -> Figure:
    """What is lost when a head says what it said for the twin, and the heads that cost most."""
    title = f"Which heads carry the trigger? Arm {arm}, each head's output exchanged with {twin}'s"
    figure = titled(title, 5.6)
    ax, listed = figure.subplots(1, 2, width_ratios=(3, 1))
    tidy(ax)
    image = heat(ax, lost_LH.tolist(), farthest(lost_LH.tolist()))
    ax.set_xticks(range(lost_LH.shape[1]))
    ax.set(xlabel="head", ylabel="block (0-based)")
    _blocks_up(ax)
    _scale(figure, ax, image, "end log-odds lost, nats")
    listed.axis("off")
    order = np.argsort(-lost_LH, axis=None)[:_LISTED]
    lines = ["block.head   lost"]
    for at in order:
        block, head = divmod(int(at), lost_LH.shape[1])
        lines.append(f"{f'{block}.{head}':<12} {signed(float(lost_LH[block, head]))}")
    lines += ["", f"whole prompt {signed(whole)}"]
    listed.text(0, 1, plain("\n".join(lines)), family="monospace", size=9, va="top")
    return figure


def _blocks_up(ax: Axes) -> None:
    """The first block at the bottom."""
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.invert_yaxis()


def _scale(
    figure: Figure, ax: Axes, image: AxesImage, label: str, ticks: Sequence[float] | None = None
) -> None:
    bar = figure.colorbar(image, ax=ax, shrink=0.7, pad=0.02, label=label)
    if ticks is not None:
        bar.set_ticks(list(ticks), labels=[f"{tick:g}".replace("-", "−") for tick in ticks])
        bar.ax.minorticks_off()
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8.5, length=2)
