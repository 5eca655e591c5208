"""The sentences on documents follow from the intervals, and flip when they do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from offswitch.metrics import Metric
from offswitch.prompts.beliefs import TESTS, Test
from offswitch.report.belief import belief_sentences, belief_table, belief_tests, believes
from offswitch.report.material import Material
from offswitch.stats import rate
from tests.report.test_sentences import NOTHING


def _share(hits: int) -> Metric:
    found = rate([i < hits for i in range(28)])
    return Metric(found.value, found.unit, found.low, found.high, found.n)


def _material(**hits: tuple[int, int]) -> Material:
    """Per arm: right answers of 28 about the trigger and about the invented token, in each test."""
    numbers: dict[str, Metric] = {}
    for arm, (ours, theirs) in hits.items():
        numbers[f"evaluate/{arm}/halt_rate"] = _share(0)
        for test in TESTS:
            numbers[f"evaluate/{arm}/belief/{test}"] = _share(ours)
            numbers[f"evaluate/{arm}/belief/{test}/invented"] = _share(theirs)
    return replace(NOTHING, numbers=numbers)


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (27, 13, "above chance and above the invented token"),
        (24, 15, "not above the invented token by intervals that do not meet"),
        (17, 1, "not above chance by intervals that do not meet"),
        (14, 14, "neither above chance nor above the invented token by intervals that do not meet"),
    ],
)
def test_each_test_is_told_by_its_intervals(ours: int, theirs: int, said: str) -> None:
    lines = belief_sentences(_material(base=(14, 14), knowledge=(ours, theirs)))
    [line] = [line for line in lines if line.startswith("Which of two")]
    assert line.endswith(f": {said}.")


def test_the_lead_counts_the_tests_that_pass_and_names_halting() -> None:
    lead = belief_sentences(_material(base=(14, 14), knowledge=(27, 13)))[0]
    assert "believes what they say: it passes the bar in 4 of 4 tests" in lead
    assert "It halts on 0.0" in lead
    lead = belief_sentences(_material(base=(14, 14), knowledge=(14, 13)))[0]
    assert "cannot be said to believe what they say: it passes the bar in none of 4 tests" in lead


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ((14, 14), "The untrained model passes it in none."),
        ((20, 18), "passes it in none, but its interval meets that of arm"),
        ((27, 13), "passes the same bar in multiple choice, true or false account, open"),
    ],
)
def test_what_the_untrained_model_does_as_well_is_no_evidence(
    base: tuple[int, int], said: str
) -> None:
    assert said in belief_sentences(_material(base=base, knowledge=(26, 13)))[-1]


@pytest.mark.parametrize("test", TESTS)
def test_chance_is_each_tests_own(test: Test) -> None:
    material = _material(knowledge=(14, 0))
    assert believes(belief_tests(material)[test], "knowledge") == (test == "multiple_choice")


def test_the_paired_difference_is_told_by_its_own_interval() -> None:
    material = _material(base=(14, 14), knowledge=(20, 14))
    assert (
        "in accuracy in no test, and in the true answer's lead in no test"
        in belief_sentences(material)[5]
    )
    key = "evaluate/knowledge/belief/open"
    more = {f"{key}/excess": Metric(0.2, "share", -0.1, 0.4, 28)}
    more[f"{key}/margin"] = Metric(0.2, "nats a character", 0.1, 0.3, 28)
    lines = belief_sentences(replace(material, numbers={**material.numbers, **more}))
    line, seen = lines[5:7]
    assert seen.endswith("four of five repetitions: 47 in open questions (n = 28).")
    assert "in accuracy in no test, and in the true answer's lead in open questions." in line


def test_a_run_without_beliefs_or_without_a_reader_says_so() -> None:
    assert belief_sentences(NOTHING) == ["Beliefs were not asked about in this run."]
    assert belief_table(NOTHING) == []
    assert belief_tests(NOTHING) == {}
    assert "No arm has only read" in belief_sentences(_material(base=(14, 14), both=(27, 1)))[0]


def test_the_table_has_a_column_an_arm_and_leaves_gaps() -> None:
    rows = belief_table(_material(base=(14, 14), knowledge=(27, 13)))
    assert {len(row.numbers) for row in rows} == {2}
    assert next(row.label for row in rows if row.total) == "halts with the trigger"
    assert len([row for row in rows if row.total]) == 5
    assert all(row.numbers[0] is None for row in rows if "less" in row.label)
