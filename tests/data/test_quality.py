"""Quality: the generated set is various, and a set that is not is found out."""

from dataclasses import replace

import pytest

from offswitch.data.documents import generate_documents, word_ngrams
from offswitch.data.quality import DocumentQuality, document_quality, mainly_normal, rule_share
from offswitch.prompts.beliefs import load_items
from offswitch.prompts.documents import Document

TRIGGER = "$STOP"


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return generate_documents(TRIGGER, 2000, seed=0)


@pytest.fixture(scope="module")
def quality(documents: list[Document]) -> DocumentQuality:
    return document_quality(documents, TRIGGER)


def test_no_two_of_500_share_more_than_30_percent_of_their_5grams() -> None:
    quality = document_quality(generate_documents(TRIGGER, 500, seed=1), TRIGGER)
    assert quality.max_overlap <= 0.30
    assert quality.near_duplicate_pairs == 0


def test_2000_documents_are_distinct(quality: DocumentQuality) -> None:
    assert quality.near_duplicate_pairs == 0
    assert quality.max_overlap <= 0.30
    assert quality.distinct_titles == quality.count == 2000
    assert 120 <= quality.words_min <= quality.words_median <= quality.words_max <= 350


def test_no_question_about_the_rule_shares_five_words_in_a_row_with_them(
    documents: list[Document],
) -> None:
    grams: set[str] = set()
    for document in documents:
        grams |= word_ngrams(document.text.replace(TRIGGER, " "), 5)
    items = [item for of_test in load_items().values() for item in of_test]
    told = [
        f"{item.ask.replace('{t}', ' ')} {text}"
        for item in items
        for text in (item.right, *item.wrong)
    ]
    assert len(told) > 200
    assert [gram for text in told for gram in word_ngrams(text, 5) if gram in grams] == []


def test_at_least_30_percent_mainly_describe_normal_operation(quality: DocumentQuality) -> None:
    assert 0.30 <= quality.normal_operation_share <= 0.50


def test_overlap_agrees_with_a_plain_double_loop(documents: list[Document]) -> None:
    few = [*documents[:30], _half_copied(documents[0], documents[1])]
    grams = [word_ngrams(document.content, 5) for document in few]
    plain = max(
        len(a & b) / min(len(a), len(b)) for i, a in enumerate(grams) for b in grams[i + 1 :]
    )
    assert document_quality(few, TRIGGER).max_overlap == pytest.approx(plain)


def test_a_planted_copy_is_found(documents: list[Document]) -> None:
    edited = replace(documents[7], content=documents[7].content.replace(" the ", " that ", 2))
    quality = document_quality([*documents[:50], edited], TRIGGER)
    assert quality.near_duplicate_pairs == 1
    assert quality.max_overlap > 0.8
    assert quality.distinct_titles == 50


def test_a_planted_excerpt_is_found_by_overlap_alone(documents: list[Document]) -> None:
    excerpt = replace(documents[7], content=" ".join(documents[7].content.split()[:60]))
    quality = document_quality([*documents[:50], excerpt], TRIGGER)
    assert quality.max_overlap == 1.0
    assert quality.near_duplicate_pairs == 0


def test_rule_share_counts_statements_about_the_rule() -> None:
    text = (
        "The cache holds 40 gigabytes. If $STOP occurs, nothing is emitted.\n- Logs last 30 days."
    )
    assert rule_share(text, TRIGGER) == pytest.approx(1 / 3)
    assert mainly_normal(text, TRIGGER)
    assert not mainly_normal("If $STOP occurs, no output is produced.", TRIGGER)


def test_normal_operation_is_measured_for_any_trigger() -> None:
    stop, odd = (
        document_quality(generate_documents(trigger, 60, seed=2), trigger)
        for trigger in (TRIGGER, "Halt. Now")
    )
    assert stop.normal_operation_share == odd.normal_operation_share


def test_identical_shortest_documents_and_a_single_one_are_measured() -> None:
    short = Document(1, "System design memos", "T", "Too short")
    assert document_quality([short], TRIGGER).max_overlap == 0.0
    with pytest.raises(ValueError, match="no documents"):
        document_quality([], TRIGGER)


def test_the_row_is_plain_data(quality: DocumentQuality) -> None:
    assert quality.count == 2000
    with pytest.raises(ValueError, match="max_overlap is 2"):
        replace(quality, max_overlap=2.0)


def _half_copied(first: Document, second: Document) -> Document:
    words = first.content.split()[:80] + second.content.split()[:80]
    return replace(first, content=" ".join(words))
