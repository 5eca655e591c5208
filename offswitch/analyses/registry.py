"""Every analysis, listed once."""

from __future__ import annotations

from typing import Any, Final

from offswitch.analyses.analysis import Analysis
from offswitch.analyses.evidence import (
    difference,
    dose,
    drift,
    heads,
    lens,
    patching,
    separability,
)
from offswitch.analyses.original import (
    base_vs_finetuned_adl,
    layerwise_delta_norm,
    logit_lens_delta,
    lowrank_pca,
)

SEED_ANALYSES: Final[tuple[Analysis[Any], ...]] = (
    layerwise_delta_norm.ANALYSIS,
    lowrank_pca.ANALYSIS,
    logit_lens_delta.ANALYSIS,
    base_vs_finetuned_adl.ANALYSIS,
)
# In the order in which the report asks: where, read, say; the causal tests are causal.py's own.
EVIDENCE: Final[tuple[Analysis[Any], ...]] = (
    difference.ANALYSIS,
    separability.ANALYSIS,
    lens.ANALYSIS,
    patching.ANALYSIS,
    heads.ANALYSIS,
    dose.ANALYSIS,
    drift.ANALYSIS,
)
