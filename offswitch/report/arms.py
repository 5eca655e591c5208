"""The battery's numbers of every arm side by side, and of every organism."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from offswitch.metrics import Metric
from offswitch.report.evidence import ACROSS_ARMS
from offswitch.report.material import Material

ORGANISMS: Final = "organisms/"


@dataclass(frozen=True)
class ArmRow:
    """One measure: what it is, its key behind the arm, each arm's number, the null of the first."""

    label: str
    measure: str
    numbers: Mapping[str, Metric]


@dataclass(frozen=True)
class OrganismRow:
    """One headline over training seeds: arm, measure, mean with interval, and the single values."""

    arm: str
    measure: str
    number: Metric


def across_arms(material: Material) -> list[ArmRow]:
    """What the battery measured, a row a measure, for the arms in the order of the evaluation."""
    rows = []
    for measure, label in ACROSS_ARMS:
        found = {arm: material.probed(arm, measure) for arm in material.verdicts}
        numbers = {arm: number for arm, number in found.items() if number is not None}
        if numbers:
            rows.append(ArmRow(label, measure, numbers))
    return rows


def organism_rows(material: Material) -> list[OrganismRow]:
    """Headlines over training seeds, the probed arm's first; empty where the run has one seed."""
    labels = dict(ACROSS_ARMS)
    rows = []
    for key, number in material.numbers.items():
        if key.startswith(ORGANISMS):
            arm, _, measure = key.removeprefix(ORGANISMS).partition("/")
            known = measure in labels or not _from_battery(measure)
            if known:
                rows.append(OrganismRow(arm, labels.get(measure, measure), number))
    return sorted(rows, key=lambda row: row.arm != material.recipe.probe.arm)


def _from_battery(measure: str) -> bool:
    return any(measure.startswith(f"{key.split('/')[0]}/") for key, _ in ACROSS_ARMS)
