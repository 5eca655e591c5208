"""Results in, Figures out: which figures a finding has follows from the type of its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from matplotlib.figure import Figure

from offswitch.analyses.analysis import Finding
from offswitch.analyses.evidence.ablation import Ablation
from offswitch.analyses.evidence.addition import Addition
from offswitch.analyses.evidence.difference import Difference
from offswitch.analyses.evidence.dose import Dose
from offswitch.analyses.evidence.drift import Drift
from offswitch.analyses.evidence.heads import Heads
from offswitch.analyses.evidence.lens import Lens
from offswitch.analyses.evidence.motor import Motor
from offswitch.analyses.evidence.patching import Patching
from offswitch.analyses.evidence.rank import Rank
from offswitch.analyses.evidence.separability import Separability
from offswitch.analyses.original.base_vs_finetuned_adl import BaseVsFinetunedAdl
from offswitch.analyses.original.layerwise_delta_norm import LayerwiseDeltaNorm
from offswitch.analyses.original.logit_lens_delta import LogitLensDelta
from offswitch.analyses.original.lowrank_pca import LowrankPca
from offswitch.plots.ablation import ablation
from offswitch.plots.addition import addition
from offswitch.plots.base_vs_finetuned_adl import base_vs_finetuned_adl
from offswitch.plots.difference import difference
from offswitch.plots.dose import dose
from offswitch.plots.drift import drift
from offswitch.plots.heads import heads
from offswitch.plots.layerwise_delta_norm import layerwise_delta_norm
from offswitch.plots.lens import lens
from offswitch.plots.logit_lens_delta import logit_lens_delta
from offswitch.plots.lowrank_pca import component_distributions, cumulative_variance
from offswitch.plots.motor import motor
from offswitch.plots.patching import patching
from offswitch.plots.rank import rank
from offswitch.plots.separability import separability

Plot = Callable[[Finding[Any]], Figure]

PLOTS: Final[Mapping[type, Mapping[str, Plot]]] = {
    LayerwiseDeltaNorm: {"1_layerwise_delta_norm.png": layerwise_delta_norm},
    LowrankPca: {
        "2_pca_cumulative_variance.png": cumulative_variance,
        "2_pca_component_distributions.png": component_distributions,
    },
    LogitLensDelta: {"3_logit_lens_delta.png": logit_lens_delta},
    BaseVsFinetunedAdl: {"4_base_vs_finetuned_adl.png": base_vs_finetuned_adl},
    Difference: {"difference.png": difference},
    Rank: {"rank.png": rank},
    Separability: {"separability.png": separability},
    Lens: {"lens.png": lens},
    Ablation: {"ablation.png": ablation},
    Addition: {"addition.png": addition},
    Motor: {"motor.png": motor},
    Patching: {"patching.png": patching},
    Heads: {"heads.png": heads},
    Dose: {"dose.png": dose},
    Drift: {"drift.png": drift},
}


def figures(finding: Finding[Any]) -> dict[str, Figure]:
    """The figures of a finding by file name."""
    return {name: plot(finding) for name, plot in PLOTS[type(finding.result)].items()}
