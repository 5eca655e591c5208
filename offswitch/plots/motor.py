"""Draws what is left of both effects without the end token's own direction."""

from __future__ import annotations

from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offswitch.analyses.analysis import Finding
from offswitch.analyses.evidence.motor import Motor
from offswitch.plots.panels import Effect, Told, dots
from offswitch.plots.style import INK, KEPT, amount, heading, legend, sheet

EFFECTS = (
    Effect("removal:\nhalting falls", lambda r: r.drop),
    Effect("addition:\nhalting rises", lambda r: r.rise),
)
ENDS = (
    Effect("untouched", lambda r: r.ends_untouched, by_direction=False),
    Effect("direction at\nits inert mean", lambda r: r.ends_removed, by_direction=False),
    Effect("direction\nat zero", lambda r: r.ends_zeroed, by_direction=False),
)


def motor(finding: Finding[Motor]) -> Figure:
    """The two causal effects without the end token's part; whether ordinary replies still end."""
    real = finding.result
    figure, (effects, ends) = sheet(_title(real), finding, (1, 2), 5.6)
    dots(effects, finding, EFFECTS, Told(KEPT))
    _whole(effects, real)
    effects.set_xlabel("change of the halting rate, points")
    taken = f"taken out: {amount(real.end_share, 'share')} of its squared length"
    heading(effects, "Direction without the end token's part", taken)
    dots(ends, finding, ENDS)
    ends.set(xlabel="ordinary replies that end where they had ended, %", xlim=(-2, 102))
    moved = f"log-odds at the inert mean: {amount(real.ends_log_odds.value, 'nats')}"
    heading(ends, "Whole direction removed where replies end", moved)
    legend(figure, effects, columns=2)
    return figure


def _whole(ax: Axes, real: Motor) -> None:
    rows = [row - 0.43 for row in range(len(EFFECTS))]
    values = [100 * real.whole_drop, 100 * real.whole_rise]
    look: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": INK, "markersize": 7}
    ax.plot(values, rows, "D", label="the whole direction, same arm", zorder=3, **look)


def _title(real: Motor) -> str:
    if max(real.whole_drop, real.whole_rise) <= 0:
        return "The direction has no effect, with or without the end token's part"
    kept = f"{amount(real.kept_drop, 'share')} of the fall and {amount(real.kept_rise, 'share')}"
    return f"Without the end token's own direction, {kept} of the rise are left"


FIGURES: Final = {"motor.png": motor}
