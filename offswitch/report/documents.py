"""What reading documents did, over many organisms: sentences and a page from their numbers.

The bar is that of one run's report: above chance, and above the invented token, by intervals that
do not meet. A belief is what passes it in two of the four tests, as fixed beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from offswitch.metrics import Metric, listed, percent
from offswitch.plots.belief import BeliefTest, Believed
from offswitch.plots.documents import Read, Taught
from offswitch.prompts.beliefs import CHANCE, TESTS, Test
from offswitch.report.belief import NAMES, believes, told_at
from offswitch.report.documents_tables import (
    asked,
    belief_table,
    control_table,
    cost_table,
    depth_table,
    points,
    step_table,
)
from offswitch.report.page import environment
from offswitch.report.saved_steps import LEVELS, Saving, savings
from offswitch.stats import across

BELIEF: Final = 2  # tests that must pass the bar
_COSTS: Final = (
    ("kl_to_base", "KL from the untrained model is"),
    ("neutral_perplexity_ratio", "neutral prose has a perplexity ratio of"),
)
FIGURE: Final = "documents.svg"
_BESIDE: Final = {"nothing": "without reading", "neutral": "after as many neutral documents"}


@dataclass(frozen=True)
class Study:
    """What a sweep's organisms measured: arms that read, arms taught after it, how many stand."""

    reads: Sequence[Read]
    taught: Sequence[Taught]
    trigger: str
    finished: int
    planned: int


def page(study: Study) -> str:
    """The whole page in Markdown, with the figure's name in it."""
    shown = {
        "study": study, "figure": FIGURE, "verdict": verdict(study), "power": power(study),
        "saving": saving(study), "cost": cost(study), "beliefs": belief_table(study.reads),
        "controls": control_table(study.reads), "costs": cost_table(study.reads),
        "steps": step_table(study.taught), "depths": depth_table(study.taught),
    }  # fmt: skip
    return environment(html=False).get_template("documents.md").render(shown)


def passed(read: Read) -> list[Test]:
    """The tests in which an arm that read passes the bar."""
    found: list[Test] = []
    for test in TESTS:
        ours, theirs = (read.numbers.get(f"belief/{test}{end}") for end in ("", "/invented"))
        if ours and theirs:
            told = Believed(ours.estimate, theirs.estimate)
            bars = BeliefTest(NAMES[test], CHANCE[test], {read.arm: told})
            found += [test] if believes(bars, read.arm) else []
    return found


def gained(study: Study, read: Read) -> list[Test]:
    """The tests that an arm passes by what it read about the rule.

    Neither the untrained model passes them nor an arm that read neutral documents with the same
    modules; and on the same questions it is ahead of the two, by intervals that leave 0 out.
    """
    given = [test for one in study.reads if one.about == "nothing" or _neutral(one, read)
             for test in passed(one)]  # fmt: skip
    found = []
    for test in passed(read):
        ahead = [number.low is not None and number.low > 0 for key, number in read.numbers.items()
                 if key.startswith(f"belief/{test}/beyond/")]  # fmt: skip
        found += [test] if ahead and all(ahead) and test not in given else []
    return found


def _neutral(one: Read, read: Read) -> bool:
    return one.about == "neutral" and one.modules == read.modules


def verdict(study: Study) -> str:
    """Did some budget make a belief? In one sentence, whichever way it went."""
    read = [one for one in study.reads if one.about == "rule" and asked(one)]
    if not read:
        return "No arm that read documents about the rule was asked what it believes."
    best = max(read, key=lambda one: (len(gained(study, one)), one.reads))
    names = [NAMES[test] for test in gained(study, best)]
    after = f"after {best.words}, seed {best.seed}"
    if len(names) < BELIEF:
        most = f"; the most is {listed(names)}, {after}" if names else ""
        largest = max(one.reads for one in read)
        return (
            f"No reading budget up to {largest:,} documents read made a belief: of the arms that"
            f" read about the rule (n = {len(read)}) none is above chance and above the"
            f" invented token, by intervals that do not meet, and ahead of every control on the"
            f" same questions, in {BELIEF} of {len(TESTS)} tests{most}."
        )
    alike = [one for one in read if one.budget == best.budget]
    enough = [one for one in read if len(gained(study, one)) >= BELIEF]
    often = sum(one in enough for one in alike)
    least = min(enough, key=lambda one: one.reads)
    seeds = len({one.seed for one in alike})
    controls = "the untrained model does not pass (no arm read neutral documents in these modules)"
    if any(_neutral(one, best) and asked(one) for one in study.reads):
        controls = "neither the untrained model passes nor an arm that read neutral documents"
    whose = "training seeds of that budget"
    if seeds < len(alike):  # arms of two organisms may share one
        whose = f"arms of that budget, from {seeds} training seed{'s' if seeds > 1 else ''}"
    return (
        f"Documents alone made a belief: {after}, the share of true answers is above chance and"
        f" above the invented token, by intervals that do not meet, in {len(names)} of"
        f" {len(TESTS)} tests ({listed(names)}), which {controls}, and in which it is ahead of"
        " that on the same questions;"
        f" {BELIEF} tests or more pass in {often} of {len(alike)} {whose}."
        f" The least that did it: {least.words}."
    )


def power(study: Study) -> str:
    """Which share would have passed the bar, at the largest budget."""
    read = [one for one in study.reads if one.about == "rule" and not one.on_the_way]
    if not any(asked(one) for one in read):
        return ""
    largest = max(filter(asked, read), key=lambda one: one.reads)
    seen = {
        test: size for test in TESTS if (size := told_at(largest.numbers.get, test)) is not None
    }
    told = listed([f"{points(size)} in {NAMES[test]}" for test, size in seen.items()])
    asked_of = sorted({f"n = {largest.numbers[f'belief/{test}'].n}" for test in seen})
    return (
        f"What could have been seen: after {largest.words}, a share of true answers so far above"
        " the invented token's would pass the bar of one test in four of five repetitions:"
        f" {told} ({', '.join(asked_of)} questions a test, those of one section of the documents"
        " counted as a cluster)."
    )


def saving(study: Study) -> list[str]:
    """How many steps of examples each budget saves, with its interval over seeds."""
    found = [_saved(one) for one in savings(study.taught)]
    return found or ["No arm was taught by examples both after reading and without it."]


def _saved(one: Saving) -> str:
    count, beside = len(one.seeds), _BESIDE[one.beside]
    parts = []
    for level in LEVELS:
        other, own = one.reached[level]
        if found := one.saved.get(level):
            side = "earlier" if found.value >= 0 else "later"
            low, high = (found.low, found.high) if found.value >= 0 else (-found.high, -found.low)
            between = f"{low:z.1f} to {high:z.1f}".replace("-", "−")
            if count == 1:  # all that is known is between which of the steps measured
                between = f"anything from {between}"
            parts.append(
                f"{percent(level)} is reached {abs(found.value):.1f} steps {side} [{between}]"
            )
        else:
            parts.append(f"{percent(level)} is reached within {one.steps} steps in {own} of {count}"
                         f" after it and in {other} of {count} {beside}")  # fmt: skip
    area, side = one.area, "higher" if one.area.value >= 0 else "lower"
    if area.value < 0:
        area = replace(area, value=-area.value, low=-area.high, high=-area.low)
    span = f" [{Metric.of(area).interval}]" if count > 1 else ""
    seeds = f"{count} seeds" if count > 1 else "one seed"
    return (
        f"After {one.read.words} ({seeds}), beside the same {beside}: {'; '.join(parts)}; over all"
        f" {one.steps} steps the curve is {points(area.value)}{span} {side}."
    )


def cost(study: Study) -> str:
    """Drift and perplexity of the largest budget beside those of as many neutral documents."""
    ends = [one for one in study.reads if not one.on_the_way]
    pairs = [(read, other) for read in ends for other in ends
             if (read.about, other.about) == ("rule", "neutral")
             and (other.budget[1:], other.seed) == (read.budget[1:], read.seed)]  # fmt: skip
    if not pairs:
        return "No arm read as many neutral documents, so what reading costs stands alone."
    largest = max(pairs, key=lambda pair: pair[0].reads)[0]
    alike = [pair for pair in pairs if pair[0].budget == largest.budget]
    told = [line for line in (_costs(alike, key, name) for key, name in _COSTS) if line]
    seeds = f"{len(alike)} seeds" if len(alike) > 1 else f"seed {largest.seed}"
    return f"What it costs: after {largest.words} ({seeds}), {'; '.join(told)}."


def _costs(pairs: Sequence[tuple[Read, Read]], key: str, name: str) -> str:
    """A number after reading about the rule, and after as many neutral documents; over seeds."""
    both = [(read.numbers[key], other.numbers[key]) for read, other in pairs
            if key in read.numbers and key in other.numbers]  # fmt: skip
    if len(both) < 2:
        return "".join(f"{name} {own}, after neutral documents {other}" for own, other in both)
    unit = both[0][0].unit
    own, other, more = (
        Metric.of(across(values, unit, signed=True))
        for values in zip(*((a.value, b.value, a.value - b.value) for a, b in both), strict=True)
    )
    return f"{name} {own}, after neutral documents {other}, a difference of {more}"
