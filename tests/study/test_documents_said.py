"""What is said of documents and examples: by how many steps, over how many seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from offswitch.metrics import Metric, exact
from offswitch.plots.documents import HELD_OUT, NEAR, Read, Taught
from offswitch.prompts.beliefs import TESTS
from offswitch.report.documents import Study, saving, verdict
from offswitch.stats import rate


def _read(seed: int, reads: int = 500, **other: Metric) -> Read:
    return Read(
        f"d{reads}-{seed}", "arm", "rule" if reads else "nothing", "attention", reads, reads, seed,
        other,
    )  # fmt: skip


def _taught(seed: int, reads: int, half: float) -> Taught:
    """An arm that halts on half of the held-out prompts after so many of ten steps, five or more.

    It gets to 5 / half after all ten.
    """
    numbers = {step: {HELD_OUT: exact(share, "share"), NEAR: exact(0, "share")}
               for step, share in ((0, 0.0), (10, 5 / half))}  # fmt: skip
    return Taught(_read(seed, reads), numbers)


def _said(before: Sequence[float], after: Sequence[float]) -> str:
    """The sentence about seeds that get to half after so many steps, nothing read and 500."""
    taught = [_taught(seed, 0, half) for seed, half in enumerate(before)]
    taught += [_taught(seed, 500, half) for seed, half in enumerate(after)]
    (line,) = saving(Study([], taught, "$STOP", 6, 6))
    return line.replace("\u00a0", " ")


def test_steps_that_are_lost_are_counted_as_later_with_their_interval() -> None:
    assert "50.0 % is reached 3.0 steps later [2.752 to 3.248];" in _said([6] * 3, [8.9, 9, 9.1])
    assert "50.0 % is reached 3.0 steps earlier [2.752 to 3.248];" in _said([8.9, 9, 9.1], [6] * 3)
    assert "50.0 % is reached 1.0 steps later [−4.414 to 6.414];" in _said([6] * 3, [6, 5.5, 9.5])
    assert "50.0 % is reached 3.0 steps later;" in _said([6], [9])


def test_a_level_that_some_seeds_do_not_reach_is_told_with_the_seeds_that_do() -> None:
    never = 20.0
    two = _said([8.9, 9.1, never], [6, 6, 6])
    assert "(3 seeds): 50.0 % is reached 3.0 steps earlier [" in two
    assert "] in the 2 of 3 seeds in which both get there; 90.0 %" in two
    (level, _, _) = _said([9, never, 9], [6, 6, never]).split("; ")
    assert level.endswith(
        "3.0 steps earlier in the 1 of 3 seeds in which both get there, so no interval"
    )
    assert "in which both" not in _said([9] * 3, [6] * 3) + _said([9], [6])


def test_two_arms_of_one_training_seed_are_not_two_seeds() -> None:
    passes = {f"belief/{test}": Metric.of(rate([True] * 60)) for test in TESTS}
    passes |= {f"belief/{test}/invented": Metric.of(rate([True, False] * 30)) for test in TESTS}
    first = _read(0, 128, **passes)
    beside = replace(first, organism="more", on_the_way=True)
    for reads, said in (
        ([first, beside], "2 of 2 arms of that budget, from 1 training seed."),
        ([first, beside, _read(1, 128, **passes)], "3 of 3 arms of that budget, from 2 training "),
        ([first, _read(1, 128, **passes)], "pass in 2 of 2 training seeds of that budget."),
    ):
        assert said in verdict(Study(reads, [], "$STOP", 2, 2))
