"""Every analysis, listed once."""

from __future__ import annotations

from typing import Any, Final

from offswitch.probe.analyses import (
    ablation,
    addition,
    base_vs_finetuned_adl,
    difference,
    dose,
    drift,
    heads,
    layerwise_delta_norm,
    lens,
    logit_lens_delta,
    lowrank_pca,
    motor,
    patching,
    rank,
    separability,
)
from offswitch.probe.analysis import Analysis

SEED_ANALYSES: Final[tuple[Analysis[Any], ...]] = (
    layerwise_delta_norm.ANALYSIS,
    lowrank_pca.ANALYSIS,
    logit_lens_delta.ANALYSIS,
    base_vs_finetuned_adl.ANALYSIS,
)
# In the order in which the report asks: where, how many, read, say; then cause; then the rest.
EVIDENCE: Final[tuple[Analysis[Any], ...]] = (
    difference.ANALYSIS,
    rank.ANALYSIS,
    separability.ANALYSIS,
    lens.ANALYSIS,
    ablation.ANALYSIS,
    addition.ANALYSIS,
    motor.ANALYSIS,
    patching.ANALYSIS,
    heads.ANALYSIS,
    dose.ANALYSIS,
    drift.ANALYSIS,
)
