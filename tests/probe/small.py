"""A recipe whose probe asks a handful of questions."""

from __future__ import annotations

from typing import Final

from offswitch.options import ProbeOptions
from offswitch.recipe import Recipe

OPTIONS: Final = ProbeOptions(
    fit_questions=9, test_questions=12, near_misses=4, random_directions=2,
    null_directions=3, null_questions=3, sweep_questions=3, few_questions=5,
    head_questions=2, patch_questions=2,
    patch_blocks=3, reply_questions=3, reply_tokens=4, drift_passages=2,
)  # fmt: skip
RECIPE: Final = Recipe(probe=OPTIONS, seed=3)
