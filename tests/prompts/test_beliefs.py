"""Truths about the questions: their own words, no give-away by length, a balanced order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import pytest
from scipy.stats import binomtest

from offswitch.data.documents_grammar import wording
from offswitch.prompts.beliefs import (
    CHANCE,
    TESTS,
    Item,
    Test,
    invented_token,
    load_items,
    make_questions,
)
from offswitch.prompts.look_alikes import INERT_WORDS, near_misses, worded_like
from offswitch.prompts.trigger import occurs
from tests.prompts.test_wording import BANNED

EVERY = [item for items in load_items().values() for item in items]
NEGATIVE = re.compile(
    r"\b(no|not|none|nothing|never|no(body|where)|neither|nor|nil|without|cannot|zero|0|empty|blank"
    r"|silen(t|ce)|unread)\b",
    re.IGNORECASE,
)
HABITS: dict[str, Callable[[str], int]] = {
    "longest": len,
    "shortest": lambda text: -len(text),
    "most words": lambda text: len(text.split()),
    "fewest words": lambda text: -len(text.split()),
    "negative": lambda text: bool(NEGATIVE.search(text)),
    "positive": lambda text: not NEGATIVE.search(text),
}


def _answers(item: Item) -> tuple[str, ...]:
    return (item.right, *item.wrong)


def _taken(habit: Callable[[str], int], item: Item) -> float:
    """How likely one who goes by this habit takes the true answer; ties are drawn."""
    best = max(map(habit, _answers(item)))
    top = [text for text in _answers(item) if habit(text) == best]
    return (item.right in top) / len(top)


@pytest.mark.parametrize("test", TESTS)
def test_there_are_at_least_60_items_and_whole_rounds_of_places(test: Test) -> None:
    items = load_items()[test]
    assert len(items) >= 60
    assert len(items) % round(1 / CHANCE[test]) == 0
    assert len({item.ask for item in items}) == len(items)
    assert all(len(set(_answers(item))) == len(_answers(item)) for item in items)


def test_items_are_about_what_the_documents_state() -> None:
    sections = {key.removesuffix(".facts").removeprefix("rule.") for key in wording()}
    assert {item.about for item in EVERY} <= sections
    uses = Counter(item.about for item in EVERY)
    assert len(uses) >= 11
    assert max(uses.values()) <= 30


def test_questions_name_no_trigger_but_in_the_slot() -> None:
    assert [item for item in EVERY if BANNED.search(f"{item.ask} {_answers(item)}")] == []


@pytest.mark.parametrize("habit", HABITS)
@pytest.mark.parametrize("test", TESTS)
def test_no_habit_does_better_than_chance(test: Test, habit: str) -> None:
    items = load_items()[test]
    hits = round(sum(_taken(HABITS[habit], item) for item in items))
    assert binomtest(hits, len(items), CHANCE[test], alternative="greater").pvalue > 0.05


@pytest.mark.parametrize("trigger", ["$STOP", "<halt>", "please freeze", "привет", "a{b}"])
def test_every_question_holds_its_symbol_as_a_word_of_its_own(trigger: str) -> None:
    questions = make_questions(trigger, "$GO")
    assert len(questions) == 2 * len(EVERY)
    assert all(occurs(asked.symbol, asked.text) for asked in questions)
    assert {asked.symbol for asked in questions if not asked.invented} == {trigger}
    assert not any(occurs(trigger, asked.text) for asked in questions if asked.invented)


@pytest.mark.parametrize("count", [None, 8])
def test_the_true_answer_takes_every_place_equally_often(count: int | None) -> None:
    for test in TESTS:
        for invented in (False, True):
            own = [
                asked
                for asked in make_questions("$STOP", "$GO", count)
                if (asked.item.test, asked.invented) == (test, invented)
            ]
            places = Counter(asked.options.index(asked.item.right) for asked in own)
            assert len(places) == round(1 / CHANCE[test])
            assert len(set(places.values())) == 1
            assert all(sorted(a.options) == sorted(_answers(a.item)) for a in own)


def test_fewer_items_are_spread_over_the_file_and_the_same_for_both_symbols() -> None:
    questions = make_questions("$STOP", "$GO", 7)
    of = {
        invented: [(asked.item, asked.place) for asked in questions if asked.invented == invented]
        for invented in (False, True)
    }
    assert of[False] == of[True]
    for test in TESTS:
        chosen = [item for item, _ in of[False] if item.test == test]
        assert len(set(chosen)) == 7
        assert load_items()[test].index(chosen[-1]) > len(load_items()[test]) / 2
    assert make_questions("$STOP", "$GO", 0) == []


@pytest.mark.parametrize("trigger", ["$STOP", "<halt>", "please freeze", "$VELD", "veld", "停止"])
def test_the_invented_token_is_nothing_that_training_or_probing_knows(trigger: str) -> None:
    control = worded_like(trigger, "brask")
    symbol = invented_token(trigger, control)
    known = {trigger, control, *(worded_like(trigger, word) for word in INERT_WORDS)}
    known |= {member for family in near_misses(trigger).values() for member in family}
    assert symbol not in known
    assert invented_token("$STOP", "$GO") == "$VELD"


def test_the_trigger_is_named_once_in_the_question_and_every_answer_has_its_chance() -> None:
    for item in EVERY:
        assert item.ask.count("{t}") == 1
        assert not any("{t}" in text for text in _answers(item))
        assert len(_answers(item)) == round(1 / CHANCE[item.test])
