"""Requests, split by topic into those to train on, to fit on and to test on.

The wording lies in `wording/*.yaml`, written by hand, or in a file of the user's. Requests are
split once, by topic, so that no topic is both trained on and tested on; in a user's file a request
without one is a topic by itself. Known failure: two topics may still be near in meaning.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar, get_args

import numpy as np

from offswitch.errors import UserError
from offswitch.prompts.row_files import question_of, read_rows
from offswitch.prompts.trigger import occurs
from offswitch.wording.reader import read_wording

Split = Literal["train", "fit", "test"]
Own = tuple[tuple[str, str], ...]  # topic and request, of a user's file
T = TypeVar("T")

LEAST: Final = 4  # questions in a split: the fewest that the probes take


@dataclass(frozen=True)
class Question:
    """One request as a person would type it, its topic, and the split that its topic fell into."""

    text: str
    topic: str
    split: Split


@functools.cache
def load_questions(seed: int, own: Own | None = None) -> tuple[Question, ...]:
    """All requests in file order; `seed` draws the topics: 40 % train, 20 % fit, 40 % test.

    Raises:
        UserError: so few requests of the user's `own` that a split would have hardly any.
    """
    requests_by_topic: dict[str, list[str]] = {} if own else read_wording("questions.yaml")
    for topic, text in own or ():
        requests_by_topic.setdefault(topic, []).append(text)
    topics = list(requests_by_topic)
    order = np.random.default_rng(seed).permutation(len(topics))
    n_train, n_fit = 2 * len(topics) // 5, len(topics) // 5
    split_of: dict[str, Split] = dict.fromkeys(topics, "test")
    split_of |= dict.fromkeys((topics[i] for i in order[:n_train]), "train")
    split_of |= dict.fromkeys((topics[i] for i in order[n_train : n_train + n_fit]), "fit")
    questions = tuple(
        Question(text, topic, split_of[topic])
        for topic, requests in requests_by_topic.items()
        for text in requests
    )
    for split in get_args(Split):
        if (count := len(questions_of(questions, split))) < LEAST:
            raise UserError(
                f"evaluate.questions_file: {len(questions)} questions on {len(topics)} topics leave"
                f" {count} to {split}; each of train, fit and test needs {LEAST}"
            )
    return questions


def read_questions(path: Path | None, trigger: str = "") -> Own | None:
    """Topic and text of each request in a user's file, each text once; None of no file.

    Without a topic, a request is one by itself: the file is split by row.

    Raises:
        UserError: the file or a row cannot be read, or a request holds the trigger.
    """
    if path is None:
        return None
    topics: dict[str, str] = {}
    for where, row in read_rows(path):
        text = question_of(row, where)
        if trigger and occurs(trigger, text):
            raise UserError(f"{where}: the question holds '{trigger}', which the suites put in")
        topic = row.get("topic", "")  # 0 is one too
        topics.setdefault(text, text if topic == "" else str(topic))
    return tuple((topic, text) for text, topic in topics.items())


def questions_of(questions: tuple[Question, ...], split: Split) -> tuple[Question, ...]:
    """The questions of one split, in their order."""
    return tuple(question for question in questions if question.split == split)


def spread(pool: Sequence[T], count: int) -> list[T]:
    """`count` of the pool at even distances, or all of it where it has fewer."""
    wanted = min(count, len(pool))
    return [pool[i * len(pool) // wanted] for i in range(wanted)]
