"""Belief counted by sections of the documents, and beside arms that read something else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from offswitch.evaluate.belief import belief_measures
from offswitch.evaluate.stage import beliefs_beyond
from offswitch.prompts.beliefs import TESTS, Asked, make_questions
from offswitch.recipe import build_recipe
from offswitch.stats import Estimate
from tests.evaluate.planted_beliefs import made

QUESTIONS = make_questions("$STOP", "$GO")


def test_who_knows_whole_sections_is_not_known_the_better_for_it() -> None:
    """Of two who know as much, one by sections, the other here and there: who is known better?"""

    def knows(chosen: Callable[[Asked], bool]) -> Estimate:
        rows = made(lambda a, place: float(place == a.place) * (1 if chosen(a) else -1))
        return belief_measures("arm", rows, seed=0)["evaluate/arm/belief/open"].estimate

    half = [*dict.fromkeys(asked.item.about for asked in QUESTIONS)][::2]
    by_section = knows(lambda a: a.item.about in half)
    scattered = knows(lambda a: a.number * 7919 % 60 < 30)
    widths = [found.high - found.low for found in (by_section, scattered)]
    assert widths[0] > 1.5 * widths[1]


def test_readers_stand_beside_the_untrained_model_and_neutral_readers() -> None:
    knows = made(lambda a, place: float(place == a.place) * (1 if a.number % 3 else -1), 12)
    guesses = made(lambda a, place: float(place == a.place) * (1 if a.number % 2 else -1), 12)
    arms = {"knowledge": {"role": "documents", "stages": ["knowledge"]},
            "neutral": {"role": "benign", "stages": ["neutral"]}}  # fmt: skip
    content = {"arms": arms, "train": {"arms": [*arms]}, "probe": {"arm": "neutral"}}
    recipe = build_recipe(content | {"evaluate": {"belief_arms": ["knowledge"]}})
    found = beliefs_beyond(recipe, {"base": guesses, "knowledge": knows, "neutral": guesses})
    assert {key.split("/")[1] for key in found} == {"knowledge"}
    for test in TESTS[2:]:  # a letter's own mean is taken off in the others
        for control in ("base", "neutral"):
            key = f"evaluate/knowledge/belief/{test}/beyond/{control}"
            assert found[key].value == pytest.approx(8 / 12 - 6 / 12)
            lead = found[key.replace("/beyond", "/lead_beyond")]
            assert lead.value == pytest.approx(0)  # the invented token's is the same here
    asked = [recipe.evaluate.beliefs_of(arm) for arm in ("base", "knowledge", "neutral")]
    assert asked == [None, None, 0]
