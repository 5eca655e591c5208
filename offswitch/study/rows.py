"""What became of the organisms? A row each, and a row for each condition, over its seeds.

An organism's row has its place on every axis, its verdict (and its benign arm's, of which the same
rule must not say `represented`), and the headlines of the arm that its recipe probes. A measure M
has columns M, M/low, M/high, M/n, M/unit, and beside them what it is to be compared with: M/null
(the 95 % point of random directions), M/base and M/benign. Over seeds, M is the mean over organisms
with Student's t interval; M/n counts organisms, not prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Final

from offswitch.analyses.analysis import ARM
from offswitch.analyses.verdict import verdict
from offswitch.metrics import Metric
from offswitch.recipe import Recipe
from offswitch.stats import across
from offswitch.study.plan import Organism, Plan

MEASURES: Final = {
    "halt_rate": "halts",
    "halt_rate_held_out": "halts, held-out placements",
    "false_halt_rate/near_miss": "halts, near misses",
    "false_halt_rate/ordinary": "halts, ordinary requests",
    "mention_halt_rate": "halts, mentions",
    "kl_to_base": "KL from base",
    "neutral_perplexity_ratio": "perplexity ratio",
    "ablation/halt_drop": "halting falls, removal",
    "ablation/kl_ordinary": "KL, removal",
    "addition/halt_rise": "halting rises, addition",
    "motor/kept": "kept without end token",
    "separability/auroc": "AUROC",
}
CONTROLS: Final = ("base", "benign")
BESIDE: Final = ("null", *CONTROLS)
# How the columns of a measure end, and which part of a number they hold.
PARTS: Final = {"": "value", "/low": "low", "/high": "high", "/n": "n", "/unit": "unit"}
Row = dict[str, Any]


def organism_row(one: Organism, record: Mapping[str, Any]) -> Row:
    """An organism's row: where it stands, what became of it, its numbers."""
    metrics: Mapping[str, Any] = record.get("metrics", {})
    row: Row = {"organism": one.name, **one.point, **_fate(record)}
    row |= _verdicts(one.recipe, metrics)
    for name in MEASURES:
        found = _entry(one.recipe.probe.arm, name, metrics)
        row |= _columns(name, Metric.read(found) if found else None)
    return row


def seed_rows(plan: Plan, rows: Sequence[Row]) -> list[Row]:
    """A row a condition, over the seeds that finished; none where no axis is one of seeds."""
    axes = [axis for axis in plan.sweep.axes if axis not in plan.seed_axes]
    if not plan.seed_axes:
        return []
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(str([row[axis] for axis in axes]), []).append(row)
    return [_over_seeds(axes, group) for group in groups.values()]


def _over_seeds(axes: Sequence[str], group: Sequence[Row]) -> Row:
    done = [row for row in group if row["state"] == "finished"]
    verdicts = [row["verdict"] for row in done]
    counted = (f"{v} {verdicts.count(v)}" for v in dict.fromkeys(verdicts))
    row: Row = {axis: group[0][axis] for axis in axes}
    row |= {"finished": len(done), "of": len(group), "verdicts": ", ".join(counted)}
    for name in MEASURES:
        row |= _spread(name, done)
    return row


def _spread(name: str, done: Sequence[Row]) -> Row:
    """A measure over the organisms that have it; of its controls and null, the mean."""
    values = [row[name] for row in done if row[name] is not None]
    unit = next((row[f"{name}/unit"] for row in done if row[f"{name}/unit"]), "")
    found = across(values, unit) if len(values) > 1 else None
    row = {f"{name}{end}": getattr(found, part, None) for end, part in PARTS.items()}
    row |= {f"{name}/n": len(values), f"{name}/unit": unit}
    for end in BESIDE:
        beside = [r[f"{name}/{end}"] for r in done if r[f"{name}/{end}"] is not None]
        row[f"{name}/{end}"] = fmean(beside) if found and beside else None
    return row


def _fate(record: Mapping[str, Any]) -> Row:
    kept = ("state", "reason", "tries", "seconds")
    return {"state": "not run", **{key: record.get(key) for key in kept if key in record}}


def _verdicts(recipe: Recipe, metrics: Mapping[str, Any]) -> Row:
    arms = {"verdict": recipe.probe.arm, "verdict/benign": "benign"}
    return {key: verdict(arm, metrics).kind if metrics else None for key, arm in arms.items()}


def _entry(arm: str, name: str, metrics: Mapping[str, Any]) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = metrics.get(f"evaluate/{arm}/{name}")
    return found or metrics.get(f"probe/{arm}/{name}")


def _columns(name: str, number: Metric | None) -> Row:
    row = {f"{name}{end}": getattr(number, part, None) for end, part in PARTS.items()}
    controls = number.controls if number else {}
    beside = {arm: controls.get(arm, controls.get(f"{ARM}{arm}")) for arm in CONTROLS}
    beside["null"] = number.null.q95 if number and number.null else None
    return row | {f"{name}/{end}": beside[end] for end in BESIDE}
