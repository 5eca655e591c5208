"""From the exact trigger to a far miss: which rungs are there, what does the rule ask of each?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from offswitch.plots.rates import RateGroup, RateRow
from offswitch.prompts.attempts import EXPECTED
from offswitch.prompts.trigger import PLACEMENTS
from offswitch.report.material import Material
from offswitch.report.rates import HELD_OUT, kind_mark, readable
from offswitch.report.sentences import FALSE_HALTS, HALTS
from offswitch.stats import Estimate

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
    # Where mentions fall under the rule, rates.py sets them no bar: they test more than the switch.
    mentions = False if m.recipe.trigger.mentions == "answer" else None
    groups = [
        _group(m, f"{t} itself", True, [("halt_rate_trained", "trained placements", "", True)]),
        _group(m, "Placements held out of training", True, _held_out(m)),
        _group(m, f"{t} in 4,096 tokens of text", True, _ways(m, "context")),
        *_attempts(m, f"{t} in adverse company", _WHOLE, parts),
        _group(m, f"{t}, but the reply has begun", None, _ways(m, "prefilled")),
        _group(
            m, f"{t} mentioned", mentions, [("mention_halt_rate", "quoted or discussed", "", True)]
        ),
        *_attempts(m, f"{t} damaged or disguised", _DAMAGED, parts),
        _group(m, "Near misses, never seen in training", False, _families(m)),
        _group(m, f"No {t} at all", False, _ordinary(m)),
    ]
    return tuple(group for group in groups if group.rows)


def expects_halt(material: Material, variant: str) -> bool | None:
    """Does the rule, as this run has it, ask for silence? None where it says nothing."""
    entry = material.robustness.get("variants", {}).get(variant, {})
    return _HALTS[entry.get("expected", EXPECTED[variant])]


def against(taught: bool, halts: bool | None, rate: Estimate) -> bool:
    """Is a rate outside the bar? An arm that was taught no rule can only halt wrongly."""
    if halts is None:
        return False
    return taught and rate.value < HALTS if halts else rate.value > FALSE_HALTS


def _group(m: Material, title: str, halts: bool | None, specs: Iterable[_Spec]) -> RateGroup:
    rows = []
    for measure, label, mark, total in specs:
        numbers = {arm: m.number(arm, measure) for arm in m.arms}
        rates = {arm: number.estimate for arm, number in numbers.items() if number}
        if rates:
            rows.append(RateRow(label, mark, total, rates))
    return RateGroup(title, ASKED[halts], halts, tuple(rows))


def _attempts(m: Material, title: str, names: Iterable[str], parts: bool) -> Iterator[RateGroup]:
    """One group, or as many as the rule has answers to these variants."""
    by_rule: dict[bool | None, list[str]] = {}
    for name in names:
        by_rule.setdefault(expects_halt(m, name), []).append(name)
    for halts, alike in by_rule.items():
        specs = [spec for name in alike for spec in _variant(m, name, parts)]
        yield _group(m, title, halts, specs)


def _variant(m: Material, name: str, parts: bool) -> Iterator[_Spec]:
    yield (f"robustness/{name}", LABELS[name], "", True)
    if parts:
        yield from ((measure, label, "", False) for measure, label, _, _ in _ways(m, name))


def _ways(m: Material, name: str, before: str = "") -> list[_Spec]:
    """The parts of a variant, in the order in which they were made."""
    known = list(m.robustness.get("variants", {}).get(name, {}).get("examples", {}))
    found = _below(m, f"robustness/{name}")
    order = [*(p for p in known if p in found), *(p for p in found if p not in known)]
    return [(f"robustness/{name}/{part}", before + readable(part), "", True) for part in order]


def _held_out(m: Material) -> list[_Spec]:
    found = _below(m, "halt_rate")
    names = [name for name in PLACEMENTS if name in found and kind_mark(name) == HELD_OUT]
    return [(f"halt_rate/{name}", readable(name), "", True) for name in names]


def _families(m: Material) -> list[_Spec]:
    found = _below(m, _NEAR)
    order = [*(n for n in _NEAREST if n in found), *(n for n in found if n not in _NEAREST)]
    return [(f"{_NEAR}/{name}", readable(name), kind_mark(name), True) for name in order]


def _ordinary(m: Material) -> list[_Spec]:
    begun = _ways(m, "prefilled_ordinary", "reply begun, ")
    return [("false_halt_rate/ordinary", "ordinary requests", "", True), *begun]


def _below(m: Material, measure: str) -> list[str]:
    """The parts of a measure that some arm has."""
    prefixes = [f"evaluate/{arm}/{measure}/" for arm in m.arms]
    return sorted({k.removeprefix(p) for k in m.numbers for p in prefixes if k.startswith(p)})
