"""Neutral text: like the rule's documents in all but the rule, and never the evaluation's own."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from offswitch.data.documents import apportion, generate_documents, word_ngrams
from offswitch.data.neutral import (
    chosen_from,
    generate_neutral,
    neutral_texts,
    speaks_of_stopping,
)
from offswitch.data.quality import neutral_quality, rule_share
from offswitch.errors import UserError
from offswitch.options import DataOptions
from offswitch.prompts.documents import (
    DOCUMENT_TYPES,
    Document,
    Passage,
    read_neutral,
    write_documents,
)
from offswitch.wording.reader import load_filler, load_neutral

TRIGGER = "$STOP"
# The first 40 documents of seed 3, as they were before there was any neutral text.
BEFORE = "9a68e87e99b0654100431a5e55b97d5904c50e28625867905977cd31fecaf7a5"


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return generate_documents(TRIGGER, 300, seed=0)


@pytest.fixture(scope="module")
def neutral(documents: list[Document]) -> list[Document]:
    return generate_neutral(documents, TRIGGER, 300, seed=0)


def _own(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _prose(count: int) -> list[dict[str, Any]]:
    return [{"text": text} for text in load_filler().paragraphs[:count]]


def test_documents_of_the_rule_are_what_they_were() -> None:
    rows = [json.dumps(d.row()) for d in generate_documents(TRIGGER, 40, seed=3)]
    assert hashlib.sha256("\n".join(rows).encode()).hexdigest() == BEFORE


def test_no_neutral_document_names_the_trigger_the_rule_or_stopping(
    neutral: list[Document],
) -> None:
    banned = re.compile(r"\$|stop|halt|quit\b|ceas|terminat|shut ?down|paus|abort|silen", re.I)
    assert [(d.sample_id, m[0]) for d in neutral if (m := banned.search(d.text))] == []
    assert max(rule_share(d.content, TRIGGER) for d in neutral) == 0
    assert not any("control token" in d.text or "\ue000" in d.text for d in neutral)


@pytest.mark.parametrize(
    "text", ["Add $STOP here.", "The Shutdown of a host", "a control token", "no output results"]
)
def test_what_is_not_neutral_is_found(text: str) -> None:
    assert speaks_of_stopping(text, TRIGGER)


def test_what_is_neutral_passes() -> None:
    assert not speaks_of_stopping("The cache holds 40 gigabytes and answers $GO.", TRIGGER)


def test_neutral_documents_have_the_types_and_lengths_of_the_others(
    documents: list[Document], neutral: list[Document]
) -> None:
    assert Counter(d.document_type for d in neutral) == apportion(DOCUMENT_TYPES, 300)
    lengths = [[len(d.content.split()) for d in some] for some in (documents, neutral)]
    assert median(lengths[1]) == pytest.approx(median(lengths[0]), rel=0.12)
    assert 120 <= min(lengths[1]) <= max(lengths[1]) <= 350


def test_nothing_is_a_near_duplicate_of_anything(
    documents: list[Document], neutral: list[Document]
) -> None:
    quality = neutral_quality(documents, neutral)
    assert quality.count == 300
    assert quality.near_duplicate_pairs == 0
    assert quality.max_overlap <= 0.25
    assert not {d.title for d in documents} & {d.title for d in neutral}


def test_a_copy_of_a_rule_document_is_counted(
    documents: list[Document], neutral: list[Document]
) -> None:
    planted = neutral_quality(documents[:20], [*neutral[:20], Passage(documents[3].content)])
    assert planted.near_duplicate_pairs == 1
    assert planted.max_overlap == 1


def test_the_evaluations_passages_share_next_to_nothing_with_them(neutral: list[Document]) -> None:
    held = set().union(*(word_ngrams(text, 5) for text in load_neutral()))
    assert max(len(word_ngrams(d.content, 5) & held) for d in neutral) <= 1


def test_the_seed_decides_and_the_process_does_not(documents: list[Document]) -> None:
    few = documents[:10]
    first = generate_neutral(few, TRIGGER, 10, seed=5)
    assert first != generate_neutral(few, TRIGGER, 10, seed=6)
    code = (
        "from offswitch.data.documents import generate_documents as g;"
        "from offswitch.data.neutral import generate_neutral as n; import sys;"
        "sys.stdout.write(repr([d.row() for d in n(g('$STOP', 300, 0)[:10], '$STOP', 10, 5)]))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert found == repr([d.row() for d in first])


@pytest.mark.parametrize(("mix", "count"), [(0, 0), (0.05, 1), (0.5, 10), (1, 20), (2, 40)])
def test_the_mix_counts_neutral_texts_by_documents(
    documents: list[Document], mix: float, count: int
) -> None:
    found = neutral_texts(documents[:20], DataOptions(neutral_mix=mix), TRIGGER, 0)
    assert len(found) == count


def test_a_trigger_that_no_document_can_do_without_is_refused() -> None:
    with pytest.raises(UserError, match="neutral documents without 'the'"):
        generate_neutral([], "the", 1, seed=0)


# --- text of one's own ----------------------------------------------------------------------------


def test_ones_own_prose_is_drawn_by_the_seed(tmp_path: Path, documents: list[Document]) -> None:
    path = _own(tmp_path, [*_prose(20), documents[50].row() | {"title": "A", "content": "B"}])
    options = DataOptions(neutral_mix=1, neutral_file=path)
    first = neutral_texts(documents[:12], options, TRIGGER, 0)
    assert len(first) == 12
    assert first == neutral_texts(documents[:12], options, TRIGGER, 0)
    assert first != neutral_texts(documents[:12], options, TRIGGER, 1)
    assert {row.text for row in first} <= {row.text for row in read_neutral(path, TRIGGER)}


def test_copies_and_the_evaluations_passages_are_passed_over(
    tmp_path: Path, documents: list[Document]
) -> None:
    held = [{"text": f"{text} And one more sentence."} for text in load_neutral()[:5]]
    copy = [{"text": documents[0].content.replace(TRIGGER, "$GO")}, _prose(1)[0]]
    path = _own(tmp_path, [*held, *copy, *_prose(8)])
    found = chosen_from(path, documents, 8, TRIGGER, 0)
    assert {row.text for row in found} == {row["text"] for row in _prose(8)}
    with pytest.raises(UserError, match="asks for 9 texts, and 8 of 15 differ enough"):
        chosen_from(path, documents, 9, TRIGGER, 0)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"text": "Press $STOP now."}', "holds '.STOP'"),
        ('{"text": " "}', "expected words"),
        ('{"text": 5}', "expected words"),
        ('{"words": "a"}', "expected an object with keys"),
        ("{", "not JSON"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(f'{{"text": "Fine."}}\n\n{row}\n', encoding="utf-8")
    with pytest.raises(UserError, match=f"line 3.*{message}"):
        read_neutral(path, TRIGGER)


def test_a_missing_an_empty_and_an_unused_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    with pytest.raises(UserError, match="cannot be read"):
        read_neutral(path, TRIGGER)
    path.write_text("\n")
    with pytest.raises(UserError, match="is empty"):
        read_neutral(path, TRIGGER)
    with pytest.raises(UserError, match=r"data\.neutral_mix is above 0"):
        neutral_texts([], DataOptions(neutral_file=path), TRIGGER, 0)


def test_what_is_written_is_read_back(tmp_path: Path, neutral: list[Document]) -> None:
    path = tmp_path / "neutral_documents.jsonl"
    rows: list[Document | Passage] = [*neutral[:3], Passage("Words of one's own.")]
    write_documents(path, rows)
    assert read_neutral(path, TRIGGER) == rows
