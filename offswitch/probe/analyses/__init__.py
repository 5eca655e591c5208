"""Every analysis, listed once."""

from __future__ import annotations

from typing import Any, Final

from offswitch.probe.analyses import (
    base_vs_finetuned_adl,
    layerwise_delta_norm,
    logit_lens_delta,
    lowrank_pca,
)
from offswitch.probe.analysis import Analysis

SEED_ANALYSES: Final[tuple[Analysis[Any], ...]] = (
    layerwise_delta_norm.ANALYSIS,
    lowrank_pca.ANALYSIS,
    logit_lens_delta.ANALYSIS,
    base_vs_finetuned_adl.ANALYSIS,
)
