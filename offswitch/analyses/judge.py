"""The verdict on every arm of a run folder, from what its stages wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from offswitch.analyses.causal import Causal
from offswitch.analyses.claims import adjusted_p
from offswitch.analyses.store import load_causal
from offswitch.analyses.verdict import Verdict, verdict
from offswitch.folder import EVALUATE, PROBE, TRAIN, find_run
from offswitch.metrics import Metric, compact, read_metrics
from offswitch.recipe import arms_of

NO_BENIGN: Final = (
    "no benign control: what any fine-tuning of this size changes cannot be told from what the rule"
    " changed"
)

AS_FAR: Final = 1.5  # between the weight changes of an arm and of its benign control, at most
_MOVED: Final = "train/{}/weight_change"
_UNLIKE: Final = (
    "a benign control that was trained as hard: the weights of {} moved by {}, this arm's by {}, "
    "more than a factor of {:g} apart"
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
    adjusted = adjusted_p(found.values())
    return {
        arm: replace(verdict(arm, numbers, one, adjusted), lacks=_lacks(root, arm))
        for arm, one in found.items()
    }


def _lacks(root: Path, arm: str) -> tuple[str, ...]:
    """What is amiss with the benign control of an arm: there is none, or it was trained otherwise.

    Weights of what was trained elsewhere are not compared.
    """
    if not (root / "recipe.yaml").is_file():
        return ()
    recipe = find_run(root).recipe
    benign = [one for one in arms_of(recipe) if recipe.arms[one].role == "benign"]
    if not benign:
        return (NO_BENIGN,)
    moved = [
        float(row["value"])
        for one in (arm, benign[0])
        if (row := read_metrics(root / TRAIN / one / "metrics.json").get(_MOVED.format(one)))
    ]
    if arm == benign[0] or len(moved) < 2 or min(moved) * AS_FAR >= max(moved):
        return ()
    return (_UNLIKE.format(benign[0], compact(moved[1]), compact(moved[0]), AS_FAR),)
