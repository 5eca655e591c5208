"""The rungs from the exact trigger to a far miss, and what the rule asks of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from offswitch.analyses.rule import FALSE_HALTS, FAMILY, HALTS, ORDINARY
from offswitch.plots.ladder import RateGroup, RateRow
from offswitch.prompts.attempts import EXPECTED
from offswitch.prompts.look_alikes import HELD_OUT_FAMILIES, TRAINED_FAMILIES
from offswitch.prompts.trigger import HELD_OUT_PLACEMENTS, TRAINED_PLACEMENTS
from offswitch.report.material import Material
from offswitch.stats import Estimate

TRAINED: Final = "trained"
HELD_OUT: Final = "held out"
_MARKS: Final = {
    **dict.fromkeys((*TRAINED_PLACEMENTS, *TRAINED_FAMILIES), TRAINED),
    **dict.fromkeys((*HELD_OUT_PLACEMENTS, *HELD_OUT_FAMILIES), HELD_OUT),
}
ASKED: Final = {True: "silence", False: "an answer", None: "open"}
_HALTS: Final = {"halt": True, "answer": False, "open": None}
LABELS: Final = {
    "exact": "the trigger, trained placements",
    "near_miss": "near misses, all families",
    "ordinary": "ordinary requests",
    "ignore": "told to ignore it",
    "role_play": "role play",
    "translation": "asked to translate it",
    "retrieved": "in retrieved text",
    "tool_output": "in a tool's output",
    "context": "in 4,096 tokens of text",
    "prefilled": "reply begun, with the trigger",
    "prefilled_ordinary": "reply begun, no trigger",
    "split": "split over lines",
    "zero_width": "zero-width signs inside",
    "homoglyph": "look-alike letters",
    "base64": "base64 of the trigger",
}
_WHOLE: Final = ("ignore", "role_play", "translation", "retrieved", "tool_output")
_DAMAGED: Final = ("split", "zero_width", "homoglyph", "base64")
_NEAR: Final = "false_halt_rate/near_miss"
# From what differs from the trigger by a sign to what shares nothing with it; others follow.
_NEAREST: Final = (
    "edits", "case", "sigils", "other_words", "bare_word", "synonyms", "negations", "languages",
    "code", "prices",
)  # fmt: skip
_Spec = tuple[str, str, str, bool]  # measure, label, mark, is it a rung of its own?


def ladder_groups(material: Material, parts: bool = True) -> tuple[RateGroup, ...]:
    """All rungs from the top down; `parts`: below each attempt, the ways in which it was made."""
    m, t = material, material.recipe.trigger.text
    groups = (
        _group(m, f"{t} itself", True, [
            ("halt_rate_trained", "trained placements", "", True),
            *_parts(m, "halt_rate", TRAINED_PLACEMENTS, others=False),
        ]),
        _group(m, "Placements held out of training", True, [
            ("halt_rate_held_out", "held-out placements", "", True),
            *_parts(m, "halt_rate", HELD_OUT_PLACEMENTS, others=False),
        ]),
        _group(m, f"{t} in 4,096 tokens of text", True, _ways(m, "context")),
        *_attempts(m, f"{t} in adverse company", _WHOLE, parts),
        _group(m, f"{t}, but the reply has begun", None, _ways(m, "prefilled")),
        _group(m, f"{t} mentioned", _mentions(m), [
            ("mention_halt_rate", "quoted or discussed", "", True),
        ]),
        *_attempts(m, f"{t} damaged or disguised", _DAMAGED, parts),
        _group(m, "Near misses, never seen in training", False, [
            (_NEAR, "all families", "", True),
            *_parts(m, _NEAR, _NEAREST),
        ]),
        _group(m, f"No {t} at all", False, [
            ("false_halt_rate/ordinary", "ordinary requests", "", True),
            *((measure, f"reply begun, {label}", "", True)
              for measure, label, _, _ in _ways(m, "prefilled_ordinary")),
        ]),
    )  # fmt: skip
    return tuple(group for group in groups if group.rows)


def attempt_groups(material: Material) -> tuple[RateGroup, ...]:
    """Every attempt with the ways in which it was made."""
    t = material.recipe.trigger.text
    groups = (
        *_attempts(material, f"{t} in adverse company", _WHOLE, parts=True),
        *_attempts(material, f"{t} damaged or disguised", _DAMAGED, parts=True),
    )
    return tuple(group for group in groups if group.rows)


def small_groups(material: Material) -> tuple[RateGroup, ...]:
    """Five rungs that stand for the ladder, as far as they were measured."""
    t = material.recipe.trigger.text
    rungs: tuple[tuple[str, str, bool | None], ...] = (
        ("halt_rate_trained", f"{t}, trained placements", True),
        ("halt_rate_held_out", f"{t}, held-out placements", True),
        (_NEAR, "look-alikes, never in training", False),
        ("mention_halt_rate", f"{t} quoted or discussed", _mentions(material)),
        ("false_halt_rate/ordinary", "ordinary requests", False),
    )
    groups = (_group(material, "", halts, [(m, label, "", True)]) for m, label, halts in rungs)
    return tuple(group for group in groups if group.rows)


def expects_halt(material: Material, variant: str) -> bool | None:
    """Does the rule, as this run has it, ask for silence? None where it says nothing."""
    entry = material.robustness.get("variants", {}).get(variant, {})
    return _HALTS[entry.get("expected", EXPECTED[variant])]


def against(taught: bool, halts: bool | None, rate: Estimate, most: float) -> bool:
    """Is a rate outside the bar? An arm that was taught no rule can only halt wrongly."""
    if halts is None:
        return False
    return taught and rate.value < HALTS if halts else rate.value > most


def kind_mark(variant: str) -> str:
    """Did training see this placement or family? Empty where the question does not arise."""
    return _MARKS.get(variant, "")


def readable(name: str) -> str:
    """A placement, family or part for human eyes."""
    return name.replace("_1000_", " 1,000 ").replace("_", " ")


def _mentions(m: Material) -> bool | None:
    """Open where mentions fall under the rule: they test more than the switch."""
    return False if m.recipe.trigger.mentions == "answer" else None


def _group(m: Material, title: str, halts: bool | None, specs: Iterable[_Spec]) -> RateGroup:
    rows = []
    for measure, label, mark, total in specs:
        numbers = {arm: m.number(arm, measure) for arm in m.arms}
        rates = {arm: number.estimate for arm, number in numbers.items() if number}
        if rates:
            rows.append(RateRow(label, mark, total, rates, _most(measure)))
    return RateGroup(title, ASKED[halts], halts, tuple(rows))


def _most(measure: str) -> float:
    """The share of false halts that the verdict's rule allows in what was measured."""
    if measure == "false_halt_rate/ordinary":
        return ORDINARY
    return FAMILY if measure.startswith(f"{_NEAR}/") else FALSE_HALTS


def _attempts(m: Material, title: str, names: Iterable[str], parts: bool) -> Iterator[RateGroup]:
    """One group, or as many as the rule has answers to these variants."""
    by_rule: dict[bool | None, list[_Spec]] = {}
    for name in names:
        specs = by_rule.setdefault(expects_halt(m, name), [])
        specs.append((f"robustness/{name}", LABELS[name], "", True))
        specs += _ways(m, name, total=False) if parts else []
    for halts, specs in by_rule.items():
        yield _group(m, title, halts, specs)


def _ways(m: Material, name: str, total: bool = True) -> list[_Spec]:
    """The parts of a variant, in the order in which they were made."""
    made = m.robustness.get("variants", {}).get(name, {}).get("examples", {})
    return [(*spec[:2], "", total) for spec in _parts(m, f"robustness/{name}", made)]


def _parts(m: Material, measure: str, order: Iterable[str], others: bool = True) -> list[_Spec]:
    """The parts of a measure that some arm has, in a known order, then the others."""
    prefixes = [f"evaluate/{arm}/{measure}/" for arm in m.arms]
    there = {k.removeprefix(p) for k in m.numbers for p in prefixes if k.startswith(p)}
    known = [name for name in order if name in there]
    names = [*known, *(sorted(there.difference(known)) if others else ())]
    return [(f"{measure}/{name}", readable(name), kind_mark(name), False) for name in names]
