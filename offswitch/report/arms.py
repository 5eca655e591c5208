"""The battery's numbers of every arm side by side, and of every organism."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from offswitch.analyses.causal import LABELS
from offswitch.analyses.registry import EVIDENCE
from offswitch.metrics import Metric
from offswitch.report.material import Material

ORGANISMS: Final = "organisms/"


@dataclass(frozen=True)
class ArmRow:
    """One measure: what it is, and each arm's number."""

    label: str
    numbers: Mapping[str, Metric]


@dataclass(frozen=True)
class OrganismRow:
    """One headline over training seeds: arm, measure, mean with interval, and the single values."""

    arm: str
    measure: str
    number: Metric


def across_arms(material: Material) -> list[ArmRow]:
    """What the battery measured, one row for each measure that has a label."""
    rows, found = [], material.numbers
    for analysis in EVIDENCE:
        for measure in analysis.measures:
            keys = {arm: analysis.key(measure, arm) for arm in material.verdicts}
            numbers = {arm: found[key] for arm, key in keys.items() if key in found}
            if measure.label and numbers:
                rows.append(ArmRow(measure.label, numbers))
    for key, label in LABELS.items():
        keys = {arm: f"probe/{arm}/{key}" for arm in material.verdicts}
        if numbers := {arm: found[key] for arm, key in keys.items() if key in found}:
            rows.append(ArmRow(label, numbers))
    return rows


def organism_rows(material: Material) -> list[OrganismRow]:
    """Headlines over training seeds, the probed arm's first; empty where the run has one seed."""
    labels = {f"{a.name}/{m.key}": m.label for a in EVIDENCE for m in a.measures if m.key} | LABELS
    rows = []
    for key, number in material.numbers.items():
        if key.startswith(ORGANISMS):
            arm, _, measure = key.removeprefix(ORGANISMS).partition("/")
            if label := labels.get(measure, measure):
                rows.append(OrganismRow(arm, label, number))
    return sorted(rows, key=lambda row: row.arm != material.recipe.probe.arm)
