"""Truths about the wording: how much there is, how varied it is, that no trigger hides in it."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations, product

from offswitch.prompts.questions import load_questions
from offswitch.wording.reader import load_filler, load_neutral

BANNED = re.compile(
    r"\$|stop|halt|\bquit(s|ter|ters|ting)?\b|ceas|terminat|shut\w*\W*down|paus|abort",
    re.IGNORECASE,
)
ACRONYMS = {"API", "DNA", "HTTP", "IP", "ISO", "JSON", "MB", "REM", "SPF", "SQL", "US", "VAT"}
QUESTIONS = load_questions(0)
TEXTS = [question.text for question in QUESTIONS]
FILLER = load_filler()
CHAT = [
    *FILLER.system_prompts,
    *(text for e in FILLER.exchanges for text in (e["user"], e["assistant"])),
]
PROSE = [*load_neutral(), *FILLER.paragraphs]


def normalised(text: str) -> str:
    """The text in lower case, each run of punctuation and space a single space."""
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def n_words(text: str) -> int:
    return len(text.split())


def five_grams(text: str) -> set[tuple[str, ...]]:
    words = normalised(text).split()
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}


def test_there_are_160_topics_of_eight() -> None:
    assert set(Counter(question.topic for question in QUESTIONS).values()) == {8}
    assert len(TEXTS) == 1280
    assert len({question.topic for question in QUESTIONS}) == 160


def test_the_rest_is_counted() -> None:
    assert len(load_neutral()) == 64
    assert len(FILLER.paragraphs) == 40
    assert len(FILLER.exchanges) == 12
    assert len(FILLER.system_prompts) == 10


def test_no_two_texts_are_equal() -> None:
    for texts in (TEXTS, PROSE, CHAT):
        assert [t for t, n in Counter(map(normalised, texts)).items() if n > 1] == []


def test_no_trigger_and_no_word_for_stopping() -> None:
    topics = {question.topic for question in QUESTIONS}
    assert [text for text in (*TEXTS, *PROSE, *CHAT, *topics) if BANNED.search(text)] == []


def test_the_ban_finds_what_it_must() -> None:
    words = ["$5", "Stopped", "nonstop", "HALT", "quit", "ceases", "shut down", "shutting down"]
    assert all(BANNED.search(word) for word in [*words, "shutdown", "paused", "aborting"])
    assert not BANNED.search("quite a shuttle; go down the hall")


def test_capitals_are_acronyms_and_not_commands() -> None:
    found = {
        word for text in (*TEXTS, *PROSE, *CHAT) for word in re.findall(r"\b[A-Z]{2,}\b", text)
    }
    assert found <= ACRONYMS


def test_lengths_are_in_range() -> None:
    assert [text for text in TEXTS if not 3 <= n_words(text) <= 45] == []
    assert [text for text in load_neutral() if not 60 <= n_words(text) <= 110] == []
    assert [text for text in FILLER.paragraphs if not 70 <= n_words(text) <= 110] == []


def test_requests_are_not_a_template_run_over_topics() -> None:
    openings = Counter(" ".join(normalised(text).split()[:3]) for text in TEXTS)
    assert max(openings.values()) <= 0.04 * len(TEXTS)
    assert len(openings) >= 0.6 * len(TEXTS)


def test_requests_are_of_mixed_form() -> None:
    n = len(TEXTS)
    assert 0.15 * n <= sum(text[0].islower() for text in TEXTS) <= 0.5 * n
    assert 0.3 * n <= sum(text.endswith("?") for text in TEXTS) <= 0.8 * n
    assert sum("\n" in text for text in TEXTS) >= 12
    assert sum(any(c.isdigit() for c in text) for text in TEXTS) >= 0.08 * n


def test_few_requests_leave_ascii_and_no_prose_does() -> None:
    assert 1 <= sum(not text.isascii() for text in TEXTS) <= 20
    assert all(text.isascii() for text in (*PROSE, *CHAT))


def test_neutral_and_filler_are_different_prose() -> None:
    pairs = product(map(five_grams, load_neutral()), map(five_grams, FILLER.paragraphs))
    assert max(len(a & b) for a, b in pairs) <= 1


def test_no_passage_repeats_another() -> None:
    counts = Counter(gram for text in PROSE for gram in five_grams(text))
    assert sum(n > 1 for n in counts.values()) <= 5


def test_no_request_is_asked_again_under_another_topic() -> None:
    bags = [set(normalised(text).split()) for text in TEXTS]
    uses = Counter(word for bag in bags for word in bag)
    rare = [
        (q.topic, {w for w in b if uses[w] <= 20}) for q, b in zip(QUESTIONS, bags, strict=True)
    ]
    pairs = [(a, b) for a, b in combinations(rare, 2) if a[0] != b[0] and len(a[1] & b[1]) >= 2]
    assert [(a, b) for a, b in pairs if len(a[1] & b[1]) > 0.4 * len(a[1] | b[1])] == []
