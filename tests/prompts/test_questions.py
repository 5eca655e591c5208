"""Truths about the split: counts, no leak, one seed one split."""

from __future__ import annotations

from collections import Counter
from dataclasses import FrozenInstanceError
from itertools import combinations

import pytest

from offswitch.prompts.questions import Question, Split, load_questions, questions_of
from offswitch.wording.reader import load_filler, load_neutral
from tests.prompts.test_wording import normalised

SPLITS: tuple[Split, ...] = ("train", "fit", "test")
TOPICS_PER_SPLIT = {"train": 64, "fit": 32, "test": 64}


def topics_of(questions: tuple[Question, ...], split: Split) -> set[str]:
    return {question.topic for question in questions_of(questions, split)}


def texts_of(questions: tuple[Question, ...], split: Split) -> set[str]:
    return {normalised(question.text) for question in questions_of(questions, split)}


@pytest.mark.parametrize("seed", [0, 1, 17])
def test_every_seed_gives_64_32_64_topics_of_eight(seed: int) -> None:
    questions = load_questions(seed)
    for split, n_topics in TOPICS_PER_SPLIT.items():
        per_topic = Counter(question.topic for question in questions if question.split == split)
        assert len(per_topic) == n_topics
        assert set(per_topic.values()) == {8}


def test_the_splits_are_a_partition() -> None:
    questions = load_questions(3)
    parts = [questions_of(questions, split) for split in SPLITS]
    assert sum(map(len, parts)) == len(questions) == 1280
    assert set().union(*parts) == set(questions)


@pytest.mark.parametrize("seed", range(5))
def test_no_topic_and_no_text_crosses(seed: int) -> None:
    questions = load_questions(seed)
    for one, other in combinations(SPLITS, 2):
        assert not topics_of(questions, one) & topics_of(questions, other)
        assert not texts_of(questions, one) & texts_of(questions, other)


def test_no_wording_stands_under_two_topics_so_that_no_seed_can_leak() -> None:
    topics: dict[str, set[str]] = {}
    for question in load_questions(0):
        topics.setdefault(normalised(question.text), set()).add(question.topic)
    assert {text: found for text, found in topics.items() if len(found) > 1} == {}


def test_a_seed_is_one_split() -> None:
    first = load_questions(5)
    load_questions.cache_clear()
    assert load_questions(5) == first


def test_seeds_differ_in_assignment_only() -> None:
    one, two = load_questions(0), load_questions(1)
    assert [(q.text, q.topic) for q in one] == [(q.text, q.topic) for q in two]
    assert topics_of(one, "test") != topics_of(two, "test")


def test_every_topic_can_be_held_out() -> None:
    held_out = set().union(*(topics_of(load_questions(seed), "test") for seed in range(40)))
    assert held_out == {question.topic for question in load_questions(0)}


def test_questions_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        load_questions(0)[0].split = "test"  # type: ignore[misc]


def test_loaders_return_the_same_object() -> None:
    assert load_questions(0) is load_questions(0)
    assert load_neutral() is load_neutral()
    assert load_filler() is load_filler()
