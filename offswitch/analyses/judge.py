"""The verdict on every arm of a run folder, from what its stages wrote."""

from __future__ import annotations

from pathlib import Path

from offswitch.analyses.causal import Causal
from offswitch.analyses.store import load_causal
from offswitch.analyses.verdict import Verdict, p_values, verdict
from offswitch.metrics import Metric, read_metrics
from offswitch.run import EVALUATE, PROBE
from offswitch.stats import holm


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
    return {arm: verdict(arm, numbers, one, adjusted) for arm, one in found.items()}
