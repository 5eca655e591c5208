"""When jobs side by side end, and what a run is made of."""

from __future__ import annotations

import pytest

from offswitch.folder import DATA, PROBE, TRAIN
from offswitch.machine.cells import Cell, Rates, Shape
from offswitch.machine.estimate import START, Cost, Part, makespan, parts_of
from offswitch.options import BASE
from offswitch.probe.battery import FILES
from offswitch.recipe import Recipe, arms_of, with_options

SHAPE = Shape("{}", 4, 2, 1000)


def test_jobs_side_by_side_end_when_the_longest_row_of_them_does() -> None:
    jobs = {"a": 3.0, "b": 2.0, "c": 2.0}
    assert makespan(jobs, {}, 1) == 7
    assert makespan(jobs, {}, 2) == 4
    assert makespan(jobs, {}, 9) == 3
    assert makespan({}, {}, 2) == 0


def test_a_job_waits_for_the_one_that_it_comes_after() -> None:
    jobs = {"first": 2.0, "then": 3.0, "other": 4.0}
    assert makespan(jobs, {"then": "first"}, 2) == 5
    assert makespan(jobs, {"then": "first"}, 1) == 9
    assert makespan({"then": 3.0}, {"then": "first"}, 2) == 3  # the first stands already


def test_an_arm_is_evaluated_while_another_is_trained() -> None:
    """Two processes: a is trained and evaluated while b is trained; c is probed by itself."""
    seconds = {("2-train/a", "a"): 4, ("2-train/b", "b"): 8, ("3-evaluate", "a"): 3,
               ("4-probe", "c"): 5}  # fmt: skip
    parts = [Part(stage, "", "fixed", took, arm) for (stage, arm), took in seconds.items()]
    cost = Cost(Rates(), SHAPE, "float32", (2, 1))
    assert cost.whole(parts, {"a": None, "b": None}) == START + 8 + 5
    assert cost.whole(parts, {"a": None, "b": "a"}) == START + 4 + 8 + 5


def test_every_arm_has_parts_in_every_stage_that_treats_arms() -> None:
    recipe = Recipe()
    parts = parts_of(recipe, SHAPE)
    for arm in arms_of(recipe):
        own = {part.stage.split("/")[0] for part in parts if part.arm == arm}
        assert own == {"2-train", "3-evaluate", "4-probe"}
    assert {part.stage for part in parts if part.arm == BASE} == {"3-evaluate", "4-probe"}
    assert all(part.amount > 0 for part in parts)


def test_every_part_of_the_battery_is_in_the_time_told() -> None:
    recipe = Recipe()
    start = f"{recipe.probe.arm}: "
    labels = [part.label for part in parts_of(recipe, SHAPE) if part.stage == PROBE]
    told = {label.removeprefix(start) for label in labels if label.startswith(start)}
    assert told == {"residuals", *FILES}


@pytest.mark.parametrize(
    ("option", "stage"),
    [("train.behavior.max_steps", f"{TRAIN}/behavior"), ("train.knowledge.max_steps",
     f"{TRAIN}/knowledge"), ("evaluate.questions", "3-evaluate"),
     ("probe.null_directions", "4-probe"),
     ("data.dialogues", DATA)],
)  # fmt: skip
def test_more_of_anything_takes_longer_in_its_stage(option: str, stage: str) -> None:
    few, many = (with_options(Recipe(), {option: n}, "here") for n in (8, 16))
    before, after = (
        sum(part.amount for part in parts_of(recipe, SHAPE) if part.stage == stage)
        for recipe in (few, many)
    )
    assert before < after


def test_twice_the_rate_takes_half_the_time_and_two_processes_share_it() -> None:
    part = next(p for p in parts_of(Recipe(), SHAPE) if p.kind == "train")

    def seconds(rate: float, processes: int) -> float:
        cells = [Cell(what, "float32", processes, 1) for what in ("train", "read")]
        rates = Rates(dict.fromkeys(cells, rate))
        return Cost(rates, SHAPE, "float32", (processes, 1)).seconds(part)

    assert seconds(200, 1) == pytest.approx(seconds(100, 1) / 2)
    assert seconds(200, 2) == pytest.approx(seconds(100, 1))
