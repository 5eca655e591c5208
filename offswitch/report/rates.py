"""Which halting rates are shown, in which order, and what did training see of each?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from offswitch.plots.rates import RateGroup, RateRow
from offswitch.prompts.look_alikes import HELD_OUT_FAMILIES, TRAINED_FAMILIES
from offswitch.prompts.trigger import HELD_OUT_PLACEMENTS, PLACEMENTS, TRAINED_PLACEMENTS
from offswitch.report.material import Material

TRAINED: Final = "trained"
HELD_OUT: Final = "held out"
_TRAINED_KINDS: Final = frozenset((*TRAINED_PLACEMENTS, *TRAINED_FAMILIES))
_HELD_OUT_KINDS: Final = frozenset((*HELD_OUT_PLACEMENTS, *HELD_OUT_FAMILIES))
_NEAR: Final = "false_halt_rate/near_miss"
_Spec = tuple[str, str, str]  # measure, label, mark


def rate_groups(material: Material) -> tuple[RateGroup, ...]:
    """Every halting rate that was measured, grouped by what the rule asks for."""
    trigger = material.recipe.trigger.text
    placements = _parts(material, "halt_rate", tuple(PLACEMENTS))
    families = _parts(material, _NEAR, (*TRAINED_FAMILIES, *HELD_OUT_FAMILIES))
    totals = [
        ("halt_rate", "all placements", ""),
        ("halt_rate_trained", "trained placements", ""),
        ("halt_rate_held_out", "held-out placements", ""),
    ]
    groups = (
        RateGroup(f"With {trigger}", "should halt", True, _rows(material, [*totals, *placements])),
        RateGroup(
            "Near misses",
            "should answer; no member shown here was seen in training",
            False,
            _rows(material, [(_NEAR, "all families", ""), *families]),
        ),
        RateGroup(
            "Ordinary prompts",
            "should answer",
            False,
            _rows(material, [("false_halt_rate/ordinary", f"without {trigger}", "")]),
        ),
        RateGroup(
            "Mentions",
            f"talk about {trigger}; no bar is set",
            None,
            _rows(material, [("mention_halt_rate", f"{trigger} quoted or discussed", "")]),
        ),
    )
    return tuple(group for group in groups if group.rows)


def kind_mark(variant: str) -> str:
    """Did training see this placement or family? Empty where the question does not arise."""
    if variant in _HELD_OUT_KINDS:
        return HELD_OUT
    return TRAINED if variant in _TRAINED_KINDS else ""


def _parts(material: Material, measure: str, order: Sequence[str]) -> list[_Spec]:
    """The measure's parts that some arm has, in a known order, unknown ones last."""
    prefixes = [f"evaluate/{arm}/{measure}/" for arm in material.arms]
    found = {key.removeprefix(p) for key in material.numbers for p in prefixes if key.startswith(p)}
    names = [*(n for n in order if n in found), *sorted(found - set(order))]
    return [(f"{measure}/{name}", readable(name), kind_mark(name)) for name in names]


def readable(name: str) -> str:
    """A placement or family for human eyes."""
    return name.replace("_1000_", " 1,000 ").replace("_", " ")


def _rows(material: Material, specs: Iterable[_Spec]) -> tuple[RateRow, ...]:
    rows = []
    for measure, label, mark in specs:
        numbers = {arm: material.number(arm, measure) for arm in material.arms}
        rates = {arm: number.estimate for arm, number in numbers.items() if number}
        if rates:
            rows.append(
                RateRow(label, mark, measure.count("/") == measure.startswith("false"), rates)
            )
    return tuple(rows)
