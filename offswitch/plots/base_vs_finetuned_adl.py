"""Draws the seed's fourth analysis: the drift by block, and the tokens that moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from offswitch.analyses.analysis import Finding
from offswitch.analyses.original.base_vs_finetuned_adl import BaseVsFinetunedAdl
from offswitch.plots.style import REAL, band, heading, legend, marks, plain, real_label, sheet
from offswitch.plots.tokens import token_bars

SHOWN = 10


def base_vs_finetuned_adl(finding: Finding[BaseVsFinetunedAdl]) -> Figure:
    """How far the arm lies from the untrained model on neutral text."""
    real = finding.result
    title = f"On neutral text, arm {finding.arm} lies {real.mean:.3g} from the untrained model (L2)"
    figure, axes = sheet(title, finding, (2, 2), 8.6)
    thirds = f"early {real.early:.3g}, middle {real.middle:.3g}, late {real.late:.3g}"
    _curves(axes[0], finding, lambda r: r.norm)
    axes[0].set_ylabel("mean L2 norm of the difference")
    heading(axes[0], "Distance by block", thirds)
    _curves(axes[1], finding, lambda r: [100 * x for x in r.relative])
    axes[1].set_ylabel("% of the untrained residual's norm")
    heading(
        axes[1],
        "Distance relative to the residual",
        f"mean {100 * sum(real.relative) / len(real.relative):.3g} %",
    )
    styles = marks(finding)
    token_bars(axes[2], finding, styles, lambda r: r.fell, "Tokens whose logits fell most", SHOWN)
    token_bars(axes[3], finding, styles, lambda r: r.rose, "Tokens whose logits rose most", SHOWN)
    legend(figure, axes[0], columns=3)
    return figure


def _curves(
    ax: Axes,
    finding: Finding[BaseVsFinetunedAdl],
    pick: Callable[[BaseVsFinetunedAdl], Sequence[float]],
) -> None:
    draws = finding.null_results
    ax.plot(
        pick(finding.result),
        color=REAL,
        linewidth=3,
        label=f"{real_label(finding)}: mean {finding.value:.3g}",
    )
    band(ax, [pick(r) for r in draws], f"range of {len(draws)} inert words in front")
    for name, mark in marks(finding).items():
        control = finding.controls[name]
        ax.plot(
            pick(control.result), **mark.line(), label=f"{plain(name)}: mean {control.value:.3g}"
        )
    ax.set(xlabel="block (0-based)", xlim=(0, len(finding.result.norm) - 1))
    ax.set_ylim(bottom=0)
