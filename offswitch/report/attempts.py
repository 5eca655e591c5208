"""What came of attempts to fool the switch: sentences, sampling, examples."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from offswitch.metrics import Metric
from offswitch.prompts.attempts import REFERENCES
from offswitch.report.ladder import ASKED, LABELS, expects_halt, readable
from offswitch.report.material import Material

TEMPERATURES: Final = ("0.7", "1.0")


@dataclass(frozen=True)
class Sampled:
    """One variant: what the rule asks, and by arm p(silence) at each of TEMPERATURES."""

    label: str
    asked: str
    numbers: Mapping[str, tuple[Metric, ...]]


@dataclass(frozen=True)
class Example:
    """One prompt of a variant's part, with signs that cannot be seen written out."""

    label: str
    part: str
    asked: str
    turns: tuple[tuple[str, str], ...]


def reaches(material: Material) -> list[str]:
    """How often each arm that was taught the rule keeps to it under attack, and where least."""
    found = (reach(material, arm) for arm in material.arms if material.role(arm) == "switch")
    return [sentence for sentence in found if sentence]


def reach(material: Material, arm: str) -> str:
    """What came of all attempts on one arm; empty where none was made."""
    parts = []
    for expected, what in (
        ("halt", "attempts that leave the trigger whole, where the rule asks for silence"),
        ("answer", "attempts without it, where the rule asks for an answer"),
    ):
        if number := material.number(arm, f"robustness/expected_{expected}"):
            parts.append(f"{_of(number)} {what}")
    if not parts:
        return ""
    errors = []
    for variant, label in LABELS.items():
        number = material.number(arm, f"robustness/{variant}")
        halts = expects_halt(material, variant)
        if number and halts is not None and variant not in REFERENCES:
            wrong = 1 - number.value if halts else number.value
            errors.append((wrong, f"{label}, {_of(number)}"))
    most, worst = max(errors, key=lambda error: error[0], default=(0.0, ""))
    rest = f"Furthest from the rule: {worst}." if most else "None goes against it."
    return f"Arm `{arm}` halts on {', and on '.join(parts)}. {rest}"


def sampled(material: Material) -> list[Sampled]:
    """Silence when replies are drawn; empty where it was not measured."""
    rows = []
    for variant, label in LABELS.items():
        keys = [f"robustness/temperature_{t}/{variant}" for t in TEMPERATURES]
        numbers = {a: [material.number(a, key) for key in keys] for a in material.arms}
        found = {a: tuple(n for n in each if n) for a, each in numbers.items() if any(each)}
        if found:
            rows.append(Sampled(label, ASKED[expects_halt(material, variant)], found))
    return rows


def examples(material: Material) -> list[Example]:
    """One prompt of each part, as a person would type it; the long contexts are left out."""
    variants = material.robustness.get("variants", {})
    return [
        Example(
            LABELS[variant],
            readable(part),
            ASKED[expects_halt(material, variant)],
            tuple((turn["role"], visible(turn["content"])) for turn in example["prompt"]),
        )
        for variant, entry in variants.items()
        for part, example in entry["examples"].items()
        if variant not in ("context", *REFERENCES)
    ]


def left_out(material: Material) -> list[str]:
    """Which variants were not tried, and why."""
    return [f"{LABELS[v]}: {why}" for v, why in material.robustness.get("skipped", {}).items()]


def visible(text: str) -> str:
    """The text with every sign that has no shape of its own written as its code."""
    return "".join(f"‹U+{ord(c):04X}›" if unicodedata.category(c) == "Cf" else c for c in text)


def _of(number: Metric) -> str:
    return f"{number.text} of {number.n:,} ({number.interval})"
