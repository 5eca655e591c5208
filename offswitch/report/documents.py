"""What reading documents did, over many organisms: sentences and a page from their numbers.

The bar is that of one run's report: above chance, and above the invented token, by intervals that
do not meet. A belief is what passes it in two of the four tests, as fixed beforehand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from offswitch.metrics import SHARE, Metric, listed, percent
from offswitch.plots.belief import BeliefTest, Believed
from offswitch.plots.documents import HELD_OUT, NEAR, Read, Taught
from offswitch.prompts.beliefs import CHANCE, TESTS, Test
from offswitch.report.belief import NAMES, believes
from offswitch.report.page import environment
from offswitch.report.saved_steps import LEVELS, Saving, savings
from offswitch.stats import smallest_seen

BELIEF: Final = 2  # tests that must pass the bar
FIGURE: Final = "documents.svg"
Row = list[str]


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
        "saving": saving(study), "cost": cost(study), "beliefs": belief_table(study),
        "controls": control_table(study), "costs": cost_table(study), "steps": step_table(study),
        "depths": depth_table(study),
    }  # fmt: skip
    return environment(html=False).get_template("documents.md").render(shown)


def passed(read: Read) -> list[Test]:
    """The tests in which an arm that read passes the bar."""
    found: list[Test] = []
    for test in TESTS:
        ours, theirs = (read.numbers.get(f"belief/{test}{end}") for end in ("", "/invented"))
        if ours and theirs:
            told = Believed(ours.estimate, theirs.estimate)
            asked = BeliefTest(NAMES[test], CHANCE[test], {read.arm: told})
            found += [test] if believes(asked, read.arm) else []
    return found


def gained(study: Study, read: Read) -> list[Test]:
    """The tests that an arm passes by what it read: the untrained model does not pass them."""
    given = [test for one in study.reads if one.about == "nothing" for test in passed(one)]
    return [test for test in passed(read) if test not in given]


def verdict(study: Study) -> str:
    """Did some budget make a belief? In one sentence, whichever way it went."""
    read = [one for one in study.reads if one.about == "rule" and _asked(one)]
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
            f" invented token, by intervals that do not meet, in {BELIEF} of {len(TESTS)}"
            f" tests that the untrained model does not pass{most}."
        )
    alike = [one for one in read if one.budget == best.budget]
    enough = [one for one in read if len(gained(study, one)) >= BELIEF]
    often = sum(one in enough for one in alike)
    least = min(enough, key=lambda one: one.reads)
    seeds = len({one.seed for one in alike})
    whose = "training seeds of that budget"
    if seeds < len(alike):  # arms of two organisms may share one
        whose = f"arms of that budget, from {seeds} training seed{'s' if seeds > 1 else ''}"
    return (
        f"Documents alone made a belief: {after}, the share of true answers is above chance and"
        f" above the invented token, by intervals that do not meet, in {len(names)} of"
        f" {len(TESTS)} tests ({listed(names)}), which the untrained model does not pass;"
        f" {BELIEF} tests or more pass in {often} of {len(alike)} {whose}."
        f" The least that did it: {least.words}."
    )


def power(study: Study) -> str:
    """Which difference could have been seen, at the largest budget."""
    read = [one for one in study.reads if one.about == "rule" and not one.on_the_way]
    if not any(_asked(one) for one in read):
        return ""
    largest = max(filter(_asked, read), key=lambda one: one.reads)
    seen = {}
    for test in TESTS:
        if number := largest.numbers.get(f"belief/{test}/excess"):
            seen[NAMES[test]] = (smallest_seen(number.estimate), number.n)
    told = listed([f"{_points(size)} in {name}" for name, (size, _) in seen.items()])
    return (
        f"What could have been seen: after {largest.words}, a share of true answers that differs"
        f" from the invented token's by {told} would have been told from none in four of five"
        f" repetitions ({', '.join(sorted({f'n = {n}' for _, n in seen.values()}))} questions a"
        " test, those of one section of the documents counted as a cluster)."
    )


def saving(study: Study) -> list[str]:
    """How many steps of examples each budget saves, with its interval over seeds."""
    found = [_saved(one) for one in savings(study.taught)]
    return found or ["No arm was taught by examples both after reading and without it."]


def cost(study: Study) -> str:
    """Drift and perplexity of the largest budget beside those of as many neutral documents."""
    pairs = [
        (read, other)
        for read in study.reads if read.about == "rule" and not read.on_the_way
        for other in study.reads
        if other.about == "neutral" and not other.on_the_way
        and (other.reads, other.modules, other.seed) == (read.reads, read.modules, read.seed)
    ]  # fmt: skip
    if not pairs:
        return "No arm read as many neutral documents, so what reading costs stands alone."
    read, other = max(pairs, key=lambda pair: pair[0].reads)
    told = [
        f"{name} {read.numbers[key]}, after neutral documents {other.numbers[key]}"
        for key, name in (("kl_to_base", "KL from the untrained model is"),
                          ("neutral_perplexity_ratio", "neutral prose has a perplexity ratio of"))
        if key in read.numbers and key in other.numbers
    ]  # fmt: skip
    return f"What it costs: after {read.words}, seed {read.seed}, {'; '.join(told)}."


# --- tables ---------------------------------------------------------------------------------------


def belief_table(study: Study) -> list[Row]:
    """A row for each arm that was asked; in each test the trigger's share, then the invented's."""
    rows = []
    for read in _in_order(filter(_asked, study.reads)):
        cells = []
        for test in TESTS:
            ours, theirs = (read.numbers.get(f"belief/{test}{end}") for end in ("", "/invented"))
            other = f"; {theirs.text}" if theirs else ""
            cells.append(f"{_cell(ours)}{other}")
        way = ", on the way" if read.on_the_way else ""
        halts = _cell(read.numbers.get("halt_rate"))
        rows.append([f"{read.words}{way}", str(read.seed), *cells, halts])
    return rows


def control_table(study: Study) -> list[Row]:
    """Test by test what is left beside the invented token, the untrained model, neutral reading."""
    rows = []
    for read in _in_order(study.reads):
        if read.about != "rule" or read.on_the_way or not _asked(read):
            continue
        for test in TESTS:
            own = {key.removeprefix(f"belief/{test}/"): number for key, number in
                   read.numbers.items() if key.startswith(f"belief/{test}/")}  # fmt: skip
            excess = own.get("excess")
            beyond = [number for key, number in own.items()
                      if key.startswith("beyond/") and key != "beyond/base"]  # fmt: skip
            seen = _points(smallest_seen(excess.estimate)) if excess else "–"
            rows.append([read.words, str(read.seed), NAMES[test], _change(excess),
                         _change(own.get("beyond/base")), _change(beyond[0] if beyond else None),
                         _cell(own.get("margin")), seen])  # fmt: skip
    return rows


def cost_table(study: Study) -> list[Row]:
    """What each arm that read cost the model."""
    return [
        [read.words, str(read.seed), *(_cell(read.numbers.get(key)) for key in
         ("tokens", "kl_to_base", "neutral_perplexity_ratio", "false_halt_rate/ordinary"))]
        for read in _in_order(study.reads) if read.about != "nothing" and not read.on_the_way
    ]  # fmt: skip


def step_table(study: Study) -> tuple[Row, list[Row]]:
    """Heads, and a row for each arm taught by examples: held-out halting, look-alikes, by steps."""
    steps = sorted({step for one in study.taught for step in one.by_step})
    rows = []
    for one in _least_read_first(study.taught):
        cells = []
        for step in steps:
            numbers = one.by_step.get(step, {})
            near = numbers.get(NEAR)
            cells.append(f"{_cell(numbers.get(HELD_OUT))}{f'; {near.text}' if near else ''}")
        rows.append([one.read.words, str(one.read.seed), *cells])
    return _heads(steps), rows


def depth_table(study: Study) -> tuple[Row, list[Row]]:
    """Heads, and a row for each probed arm: where a direction's removal first takes half away."""
    deep = [one for one in study.taught if one.depths]
    steps = sorted({step for one in deep for step in one.depths})
    rows = []
    for one in _least_read_first(deep):
        cells = []
        for step in steps:
            curve = one.depths.get(step, {})
            half = next((depth for depth, fall in curve.items() if fall.value >= 0.5), None)
            if not curve:
                cells.append("–")
            elif half is not None:
                cells.append(f"{percent(half)}: {_change(curve[half])}")
            else:
                most = max(curve.values(), key=lambda fall: fall.value)
                cells.append(f"nowhere: {_change(most)}")
        rows.append([one.read.words, str(one.read.seed), *cells])
    return _heads(steps), rows


def _heads(steps: Iterable[int]) -> Row:
    return ["read before", "seed", *(f"{step} steps" for step in steps)]


def _least_read_first(taught: Iterable[Taught]) -> list[Taught]:
    return sorted(taught, key=lambda one: (one.read.reads, one.read.words, one.read.seed))


def _saved(one: Saving) -> str:
    seeds = f"{len(one.seeds)} seeds" if len(one.seeds) > 1 else "one seed, so no interval"
    parts = []
    for level in LEVELS:
        plain, own = one.reached[level]
        if number := one.saved.get(level):
            earlier = number.value >= 0
            if not earlier:
                e = number.estimate
                number = Metric.of(replace(e, value=-e.value, low=-e.high, high=-e.low))
            told = f" [{number.interval}]" if number.interval else ""
            side = "earlier" if earlier else "later"
            if number.n != len(one.seeds):
                told += f" in the {number.n} of {len(one.seeds)} seeds in which both get there"
                told += ", so no interval" if number.n == 1 else ""
            parts.append(f"{percent(level)} is reached {number.value:.1f} steps {side}{told}")
        else:
            parts.append(f"{percent(level)} is not reached within {one.steps} steps by"
                         f" {len(one.seeds) - plain} without reading and {len(one.seeds) - own}"
                         " after it")  # fmt: skip
    area = one.area
    span = f" [{area.interval}]" if area.interval else ""
    return (
        f"After {one.read.words} ({seeds}): {'; '.join(parts)}; over all {one.steps} steps"
        f" it is {_signed_points(area)}{span} above that without reading."
    )


def _asked(read: Read) -> bool:
    return any(f"belief/{test}" in read.numbers for test in TESTS)


def _in_order(reads: Iterable[Read]) -> list[Read]:
    order = ("nothing", "neutral", "rule")
    return sorted(reads, key=lambda r: (order.index(r.about), r.modules, r.reads, r.seed))


def _cell(number: Metric | None) -> str:
    if number is None:
        return "–"
    return f"{number.text} [{number.interval}]" if number.interval else number.text


def _change(number: Metric | None) -> str:
    if number is None:
        return "–"
    return f"{_signed_points(number)} [{number.interval}]"


def _signed_points(number: Metric) -> str:
    return _points(number.value) if number.unit == SHARE else number.text


def _points(share: float) -> str:
    return f"{100 * share:.1f} points".replace("-", "−")
