"""Tables of what reading documents did: what is believed, what it costs, halting by example steps.

A row is an arm of one training seed; a cell is a number with its 95 % interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from offswitch.analyses.causal import Point
from offswitch.metrics import SHARE, Metric, percent
from offswitch.plots.documents import HELD_OUT, NEAR, Read, Taught
from offswitch.prompts.beliefs import TESTS
from offswitch.report.belief import NAMES, told_at

SEEN: Final = 0.2  # of halting: where whole residuals do less, no direction can be told to do it
Row = list[str]


def belief_table(reads: Sequence[Read]) -> list[Row]:
    """A row for each arm that was asked; in each test the trigger's share, then the invented's."""
    rows = []
    for read in _in_order(filter(asked, reads)):
        cells = []
        for test in TESTS:
            ours, theirs = (read.numbers.get(f"belief/{test}{end}") for end in ("", "/invented"))
            other = f"; {theirs.text}" if theirs else ""
            cells.append(f"{cell(ours)}{other}")
        way = ", on the way" if read.on_the_way else ""
        halts = cell(read.numbers.get("halt_rate"))
        rows.append([f"{read.words}{way}", str(read.seed), *cells, halts])
    return rows


def control_table(reads: Sequence[Read]) -> list[Row]:
    """Test by test what is left beside the invented token, the untrained model, neutral reading."""
    rows = []
    for read in _in_order(reads):
        if read.about != "rule" or read.on_the_way or not asked(read):
            continue
        for test in TESTS:
            own = {key.removeprefix(f"belief/{test}/"): number for key, number in
                   read.numbers.items() if key.startswith(f"belief/{test}/")}  # fmt: skip
            excess = own.get("excess")
            beyond = [number for key, number in own.items()
                      if key.startswith("beyond/") and key != "beyond/base"]  # fmt: skip
            told = told_at(read.numbers.get, test)
            seen = points(told) if told is not None else "–"
            rows.append([read.words, str(read.seed), NAMES[test], change(excess),
                         change(own.get("beyond/base")), change(beyond[0] if beyond else None),
                         cell(own.get("margin")), seen])  # fmt: skip
    return rows


def cost_table(reads: Sequence[Read]) -> list[Row]:
    """What each arm that read cost the model."""
    return [
        [read.words, str(read.seed), *(cell(read.numbers.get(key)) for key in
         ("tokens", "kl_to_base", "neutral_perplexity_ratio", "false_halt_rate/ordinary"))]
        for read in _in_order(reads) if read.about != "nothing" and not read.on_the_way
    ]  # fmt: skip


def step_table(taught: Sequence[Taught]) -> tuple[Row, list[Row]]:
    """Heads, and a row for each arm taught by examples: held-out halting, look-alikes, by steps."""
    steps = sorted({step for one in taught for step in one.by_step})
    rows = []
    for one in _least_read_first(taught):
        cells = []
        for step in steps:
            numbers = one.by_step.get(step, {})
            near = numbers.get(NEAR)
            cells.append(f"{cell(numbers.get(HELD_OUT))}{f'; {near.text}' if near else ''}")
        rows.append([one.read.words, str(one.read.seed), *cells])
    return _heads(steps), rows


def depth_table(taught: Sequence[Taught]) -> tuple[Row, list[Row]]:
    """Heads, and a row for each probed arm: where one direction first takes half of the halting."""
    deep = [one for one in taught if one.depths]
    steps = sorted({step for one in deep for step in one.depths})
    rows = [
        [one.read.words, str(one.read.seed), *(_depth(one.depths.get(step, ())) for step in steps)]
        for one in _least_read_first(deep)
    ]
    return _heads(steps), rows


def _depth(curve: Sequence[Point]) -> str:
    """The first depth at which a direction does half of what whole residuals do at their best.

    Where those do next to nothing, the trigger's twin halts too, or the arm hardly does.
    """
    falls = [(one.depth, one.fall) for one in curve if one.fall]
    if not falls:
        return "–"
    whole = max((one.whole for one in curve), key=lambda fall: fall.value)
    if whole.value < SEEN:
        return f"nothing to remove; whole residuals: {change(Metric.of(whole))}"
    half = next(((depth, fall) for depth, fall in falls if fall.value >= whole.value / 2), None)
    most = max((fall for _, fall in falls), key=lambda fall: fall.value)
    where, fall = (percent(half[0]), half[1]) if half else ("nowhere", most)
    return f"{where}: {change(Metric.of(fall))} of {points(whole.value)}"


def _heads(steps: Iterable[int]) -> Row:
    return ["read before", "seed", *(f"{step} steps" for step in steps)]


def _least_read_first(taught: Iterable[Taught]) -> list[Taught]:
    return sorted(taught, key=lambda one: (one.read.reads, one.read.words, one.read.seed))


def asked(read: Read) -> bool:
    """Was the arm asked what it believes?"""
    return any(f"belief/{test}" in read.numbers for test in TESTS)


def _in_order(reads: Iterable[Read]) -> list[Read]:
    order = ("nothing", "neutral", "rule")
    return sorted(reads, key=lambda r: (order.index(r.about), r.modules, r.reads, r.seed))


def cell(number: Metric | None) -> str:
    """A number and its interval; a dash where there is none."""
    if number is None:
        return "–"
    return f"{number.text} [{number.interval}]" if number.interval else number.text


def change(number: Metric | None) -> str:
    """The same of a difference: those of shares in points."""
    if number is None:
        return "–"
    value = points(number.value) if number.unit == SHARE else number.text
    return f"{value} [{number.interval}]" if number.interval else value


def points(share: float) -> str:
    """A difference of shares in points."""
    return f"{100 * share:.1f} points".replace("-", "−")
