"""The time left, told by a clock that stands still until it is moved."""

from __future__ import annotations

from typing import Final

import pytest

from offswitch.machine.cells import BLOCKS, Cell, Rates, Shape, What
from offswitch.machine.estimate import SLOWER, Cost, Kind, Part
from offswitch.machine.time_left import TimeLeft, begins, ends, in_words, told
from offswitch.progress import Bar, track

WHATS: Final[tuple[What, ...]] = ("train", "read")


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def part(stage: str, label: str, seconds: float, kind: Kind = "read", arm: str = "") -> Part:
    """A part that the cost below foretells in so many seconds."""
    return Part(stage, label, kind, seconds / SLOWER.get(kind, 1.0), arm)


def left_of(*parts: Part, processes: int = 1) -> tuple[TimeLeft, Clock]:
    """What is left on a machine where each process does a token a second."""
    rates = {Cell(what, "float32", processes, 1): float(processes) for what in WHATS}
    clock = Clock()
    cost = Cost(Rates(rates), Shape("{}", BLOCKS, 1, 1), "float32", (processes, 1))
    return TimeLeft({"": parts}, cost, clock), clock


def test_before_anything_is_done_the_whole_is_what_was_foretold() -> None:
    left, _ = left_of(part("2-train/both", "training both", 90, "train", "both"),
                      part("5-report", "figures", 10, "fixed"))  # fmt: skip
    assert left.seconds() == pytest.approx(100)


def test_time_passes_and_ends_with_the_stage() -> None:
    left, clock = left_of(part("1-data", "", 10, "fixed"), part("5-report", "figures", 5, "fixed"))
    left.begin("", "1-data")
    clock.now += 4
    assert left.seconds() == pytest.approx(11)
    clock.now += 40  # it takes longer than was thought: nothing is left of it, not less
    assert left.seconds() == pytest.approx(5)
    left.end("", "1-data")
    assert left.seconds() == pytest.approx(5)


def test_a_machine_of_half_the_speed_is_noticed() -> None:
    """Of 1,000 s foretold, 510 took 1,020: the rest, and a later stage, will take twice as long."""
    left, clock = left_of(part("2-train/both", "training both", 1000, "train", "both"),
                          part("4-probe", "both: interventions", 100, "read", "both"))  # fmt: skip
    left.begin("", "2-train/both")
    for done in range(51):
        left.watch(Bar("training both", done, 100))
        clock.now += 20
    left.watch(Bar("training both", 51, 100))
    assert left.seconds() == pytest.approx(2 * (490 + 100), rel=0.03)


def test_between_two_moves_the_time_left_falls_with_the_clock() -> None:
    left, clock = left_of(part("3-evaluate", "base: beliefs", 100))
    left.watch(Bar("base: beliefs", 0, 2))
    clock.now += 30
    assert left.seconds() == pytest.approx(70)


def test_what_an_earlier_try_left_says_nothing_of_the_speed() -> None:
    """A training that goes on at step 60 of 100 was not done in no time."""
    left, clock = left_of(part("2-train/both", "training both", 1000, "train", "both"))
    left.watch(Bar("training both", 0, 100))
    clock.now += 1
    left.watch(Bar("training both", 60, 100))
    assert left.seconds() == pytest.approx(400)


def test_replies_from_the_cache_say_nothing_of_other_work() -> None:
    left, clock = left_of(part("1-data", "the model's own replies", 500, "write"),
                          part("2-train/both", "training both", 300, "train", "both"))  # fmt: skip
    left.begin("", "1-data")
    for done in (0, 96, 240):
        left.watch(Bar("the model's own replies", done, 240))
        clock.now += 0.1
    left.end("", "1-data")
    assert left.seconds() == pytest.approx(300)


def test_arms_side_by_side_share_the_processes() -> None:
    arms = [part("3-evaluate", f"{arm}: beliefs", 60, arm=arm) for arm in "abc"]
    assert left_of(*arms, processes=1)[0].seconds() == pytest.approx(180)
    assert left_of(*arms, processes=2)[0].seconds() == pytest.approx(90)
    assert left_of(*arms, processes=9)[0].seconds() == pytest.approx(60)


def test_bars_of_another_run_within_the_whole_are_its_own() -> None:
    own = part("2-train/both", "training both", 100, "train", "both")
    cost = Cost(Rates({Cell(what, "float32", 1, 1): 1.0 for what in WHATS}),
                Shape("{}", BLOCKS, 1, 1), "float32", (1, 1))  # fmt: skip
    left = TimeLeft({"": [own], "organisms/seed-1": [own]}, cost, Clock())
    left.end("", "2-train/both")
    left.begin("organisms/seed-1", "2-train/both")
    left.watch(Bar("training both", 0, 100))
    left.watch(Bar("training both", 40, 100))
    assert left.seconds() == pytest.approx(60)


def test_while_it_is_told_bars_and_stages_speak_of_the_whole() -> None:
    left, clock = left_of(part("3-evaluate", "base: beliefs", 600))
    assert begins("", "3-evaluate") == ""
    with told(left):
        assert begins("", "3-evaluate") == "; about 10 min left of the whole run"
        with track("base: beliefs", 2) as tick:
            clock.now += 300
            tick(1)
        assert left.seconds() == pytest.approx(300)
        ends("", "3-evaluate")
        assert left.seconds() == 0
    assert begins("", "3-evaluate") == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(20, "less than a minute"), (400, "about 7 min"), (9000, "about 2.5 h")],
)
def test_times_are_told_as_exactly_as_they_are_known(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
