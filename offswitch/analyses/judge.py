"""The verdict on every arm of a run folder, from what its stages wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from offswitch.analyses.causal import Causal
from offswitch.analyses.claims import p_values
from offswitch.analyses.store import load_causal
from offswitch.analyses.verdict import Verdict, verdict
from offswitch.folder import EVALUATE, PROBE, find_run
from offswitch.metrics import Metric, read_metrics
from offswitch.recipe import arms_of
from offswitch.stats import holm

NO_BENIGN: Final = (
    "no benign control: what any fine-tuning of this size changes cannot be told from what the rule"
    " changed"
)


def causal_of(root: Path) -> dict[str, Causal | None]:
    """The causal evidence of every arm that was probed; None of an arm that is taught no switch."""
    arms = sorted(path.parent.name for path in (root / PROBE).glob("*/findings.json"))
    return {arm: load_causal(root / PROBE / arm) for arm in arms}


def judge(root: Path) -> dict[str, Verdict]:
    """The rule applied to every arm that was probed; p-values are adjusted over all of them."""
    found = causal_of(root)
    metrics = read_metrics(root / EVALUATE / "metrics.json")
    numbers = {key: Metric.read(row) for key, row in metrics.items()}
    p = {name: value for one in found.values() if one for name, value in p_values(one).items()}
    adjusted = dict(zip(p, holm(list(p.values())) if p else (), strict=True))
    lacks = () if _has_benign(root) else (NO_BENIGN,)
    return {
        arm: replace(verdict(arm, numbers, one, adjusted), lacks=lacks)
        for arm, one in found.items()
    }


def _has_benign(root: Path) -> bool:
    if not (root / "recipe.yaml").is_file():
        return True
    recipe = find_run(root).recipe
    return any(recipe.arms[arm].role == "benign" for arm in arms_of(recipe))
