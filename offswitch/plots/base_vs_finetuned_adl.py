"""Draws the original's fourth analysis: drift by block, tokens that moved."""

from __future__ import annotations

from typing import Final

from matplotlib.figure import Figure

from offswitch.analyses.analysis import Finding
from offswitch.analyses.original.base_vs_finetuned_adl import BaseVsFinetunedAdl
from offswitch.plots.panels import Told, curves
from offswitch.plots.style import heading, legend, sheet
from offswitch.plots.tokens import token_bars


def base_vs_finetuned_adl(finding: Finding[BaseVsFinetunedAdl]) -> Figure:
    """How far the arm lies from the untrained model on neutral text."""
    real = finding.result
    title = f"On neutral text, arm {finding.arm} lies {real.mean:.3g} from the untrained model (L2)"
    figure, axes = sheet(title, finding, (2, 2), 8.6)
    mean = Told("", before="mean ")
    curves(axes[0], finding, lambda r: r.norm, told=mean)
    axes[0].set_ylabel("mean L2 norm of the difference")
    thirds = f"early {real.early:.3g}, middle {real.middle:.3g}, late {real.late:.3g}"
    heading(axes[0], "Distance by block", thirds)
    curves(axes[1], finding, lambda r: [100 * x for x in r.relative], told=mean)
    axes[1].set_ylabel("% of the untrained residual's norm")
    share = f"mean {100 * sum(real.relative) / len(real.relative):.3g} %"
    heading(axes[1], "Distance relative to the residual", share)
    for ax in axes[:2]:
        ax.set(xlabel="block (0-based)", xlim=(0, len(real.norm) - 1))
        ax.set_ylim(bottom=0)
    token_bars(axes[2], finding, lambda r: r.fell, "Tokens whose logits fell most", 10)
    token_bars(axes[3], finding, lambda r: r.rose, "Tokens whose logits rose most", 10)
    legend(figure, axes[0], columns=3)
    return figure


FIGURES: Final = {"4_base_vs_finetuned_adl.png": base_vs_finetuned_adl}
