"""The run and its variants side by side, as a table of headlines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from offswitch.metrics import Metric
from offswitch.report.material import Material

VARIANTS: Final = "variants/"
COLUMNS: Final = {
    "halt_rate_trained": "halts, trained placements",
    "halt_rate_held_out": "halts, held-out placements",
    "false_halt_rate/ordinary": "halts, ordinary requests",
    "false_halt_rate/near_miss": "halts, near misses",
    "mention_halt_rate": "halts, mentions",
    "kl_to_base": "KL from base, nats a token",
    "neutral_perplexity_ratio": "perplexity ratio",
}


@dataclass(frozen=True)
class VariantRow:
    """One arm of one variant, its headlines by measure."""

    variant: str
    arm: str
    numbers: Mapping[str, Metric]


def variant_rows(material: Material) -> list[VariantRow]:
    """One row per arm, the run's own first; empty where the recipe has no variants."""
    found: dict[tuple[str, str], dict[str, Metric]] = {}
    for key, number in material.numbers.items():
        if key.startswith(VARIANTS):
            variant, arm, measure = key.removeprefix(VARIANTS).split("/", 2)
            found.setdefault((variant, arm), {})[measure] = number
    variants = list(dict.fromkeys(variant for variant, _ in found))
    own = [v for v in variants if v not in material.recipe.variants]
    order = [*own, *(v for v in material.recipe.variants if v in variants)]
    pairs = [(v, arm) for v in order for arm in material.arms if (v, arm) in found]
    return [VariantRow("as it is" if v in own else v, arm, found[v, arm]) for v, arm in pairs]


def variant_columns(rows: list[VariantRow]) -> dict[str, str]:
    """The measures that any row has, and their headings: belief tests behind the others."""
    there = dict.fromkeys(measure for row in rows for measure in row.numbers)
    known = {measure: label for measure, label in COLUMNS.items() if measure in there}
    beliefs = [m for m in there if m.startswith("belief/") and m.count("/") == 1]
    return known | {m: f"belief, {m.partition('/')[2].replace('_', ' ')}" for m in beliefs}
