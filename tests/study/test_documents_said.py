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


def test_steps_that_are_lost_are_counted_as_later_and_none_are_known_between_two_steps() -> None:
    """All of these cross between steps 0 and 10: nobody knows where."""
    assert "50.0 % is reached 3.0 steps later [−10.0 to 10.0];" in _said([6] * 3, [8.9, 9, 9.1])
    assert "50.0 % is reached 3.0 steps earlier [−10.0 to 10.0];" in _said([8.9, 9, 9.1], [6] * 3)
    assert "50.0 % is reached 3.0 steps later [anything from −10.0 to 10.0];" in _said([6], [9])


def test_a_level_that_some_seeds_do_not_reach_is_told_by_the_seeds_that_do() -> None:
    """Among those that do the sign may turn, so that no difference is told."""
    never = 20.0
    two = _said([8.9, 9.1, never], [6, 6, 6])
    assert "50.0 % is reached within 10 steps in 3 of 3 after it and in 2 of 3 without" in two
    assert "earlier" not in two
    assert "in 3 of 3" not in _said([9] * 3, [6] * 3)


def test_a_gain_in_every_seed_may_still_be_none() -> None:
    """Over all steps 2.2, 1.1 and 0.3 points: the interval reaches below 0."""
    line = _said([10, 10, 10], [9, 9.5, 9.9])
    assert line.rpartition("[")[2].startswith("−")
    assert line.endswith("] higher.")
    assert _said([6], [9]).endswith("13.9 points lower.")


def test_two_arms_of_one_training_seed_are_not_two_seeds() -> None:
    passes = {f"belief/{test}": Metric.of(rate([True] * 60)) for test in TESTS}
    ahead = Metric(0.5, "share", 0.4, 0.6, 60)
    passes |= {f"belief/{test}/beyond/base": ahead for test in TESTS}
    passes |= {f"belief/{test}/invented": Metric.of(rate([True, False] * 30)) for test in TESTS}
    first = _read(0, 128, **passes)
    beside = replace(first, organism="more", on_the_way=True)
    for reads, said in (
        ([first, beside], "2 of 2 arms of that budget, from 1 training seed."),
        ([first, beside, _read(1, 128, **passes)], "3 of 3 arms of that budget, from 2 training "),
        ([first, _read(1, 128, **passes)], "pass in 2 of 2 training seeds of that budget."),
    ):
        assert said in verdict(Study(reads, [], "$STOP", 2, 2))
