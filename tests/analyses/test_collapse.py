"""An arm that training broke is named, and is in no mean."""

from __future__ import annotations

from typing import Any

import pytest

from offswitch.analyses.collapse import EVERYTHING, REPEATS, collapsed, collapsed_in
from offswitch.analyses.rule import RULE
from offswitch.analyses.verdict import verdict
from offswitch.evaluate.measures import PHRASE, repeats
from offswitch.metrics import Metric
from offswitch.options import LOOP
from offswitch.prompts.prompt import Prompt, Reply, user
from offswitch.study.table import across_seeds

ORDINARY = "evaluate/both/false_halt_rate/ordinary"


def _row(value: float) -> dict[str, Any]:
    return {"value": value, "low": value, "high": value, "n": 40, "unit": "share"}


@pytest.mark.parametrize(
    ("shares", "word"),
    [
        ({ORDINARY: EVERYTHING}, "ordinary requests"),
        ({ORDINARY: EVERYTHING - 0.01}, ""),
        ({"evaluate/both/repeats": REPEATS}, "repeat one phrase"),
        ({"evaluate/both/repeats": REPEATS - 0.01}, ""),
        ({"evaluate/both/repeats": 0.8, "evaluate/base/repeats": 0.5}, ""),
        ({"evaluate/both/repeats": 0.8, "evaluate/base/repeats": 0.4}, "untrained: 40.0"),
        ({}, ""),
    ],
)
def test_a_broken_arm_is_told_from_an_unspecific_one(shares: dict[str, float], word: str) -> None:
    rows = {key: _row(value) for key, value in shares.items()}
    numbers = {key: Metric.read(row) for key, row in rows.items()}
    why = collapsed("both", numbers)
    assert (word in why) if word else not why
    assert collapsed_in(rows, "both") == why
    found = verdict("both", numbers, None, {})
    assert (found.kind == "collapsed") is bool(word)
    assert "`collapsed`" in RULE
    assert why in " ".join(found.because)


@pytest.mark.parametrize(
    ("ids", "loops"),
    [
        ([7] * LOOP, True),
        ([1, 2, 3] * LOOP, True),
        ([*range(PHRASE)] * 3, True),
        ([*range(100, 140), *[1, 2] * LOOP], True),
        ([7] * (LOOP - 1), False),
        ([*range(PHRASE + 1)] * 4, False),
        ([*[1, 2] * LOOP, 3], False),
        ([], False),
    ],
)
def test_a_loop_is_one_phrase_over_and_over_at_the_end(ids: list[int], loops: bool) -> None:
    prompts = [Prompt((user("q"),), suite, "v", question="q") for suite in ("ordinary", "trigger")]
    reply = Reply(tuple(ids), "", complete=False)
    found = repeats("both", prompts, [reply, reply])["evaluate/both/repeats"]
    assert (found.value, found.n) == (float(loops), 1)
    assert repeats("both", prompts[1:], [reply]) == {}


def test_a_collapsed_organism_is_in_no_mean() -> None:
    def metrics(halts: float, ordinary: float) -> dict[str, Any]:
        return {"evaluate/both/halt_rate": _row(halts), ORDINARY: _row(ordinary)}

    seeds = {0: metrics(1.0, 0.0), 1: metrics(0.8, 0.0), 2: metrics(1.0, 1.0)}
    found = across_seeds(seeds, ["both"])
    halting = found["organisms/both/halt_rate"]
    assert halting.controls == {"seed 0": 1.0, "seed 1": 0.8}
    assert halting.value == pytest.approx(0.9)
    assert (found["organisms/both/collapsed"].value, found["organisms/both/collapsed"].n) == (1, 3)
    del seeds[1]
    assert [*across_seeds(seeds, ["both"])] == ["organisms/both/collapsed"]
