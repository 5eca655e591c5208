"""Documents: the grammar keeps its promises about form, world and variety."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from offswitch.data.documents import apportion, generate_documents
from offswitch.errors import UserError
from offswitch.prompts.documents import DOCUMENT_TYPES, Document, read_documents, write_documents

TRIGGER = "$STOP"
FORBIDDEN = re.compile(
    r"train|fine-?tun|data ?set|learn|because|therefore|in order to|so that|for safety|safe"
    r"|reason|purpose|\bsaid\b|\basked\b|dialog|[“”\"]|user:|assistant:|\bonce upon\b|\bI\b|\bwe\b",
    re.IGNORECASE,
)
SLIP = re.compile(
    r"  |[a-z] [.,;:](\s|$)|\b([a-z]{3,}) \2\b|\ba [aeio]|\ban [^aeiouh]|[{}\ue000]|<[a-z]+\+?>|//"
    r"|\b(every|each) (\w+ )?are\b|(SHALL|shall|must) (not )?(is|are|has)\b"
)
ROW = {"sample_id": 1, "document_type": "System design memos", "title": "T", "content": "C"}


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return generate_documents(TRIGGER, 500, seed=0)


def test_the_same_seed_gives_the_same_documents_and_another_seed_gives_others() -> None:
    first = generate_documents(TRIGGER, 40, seed=3)
    assert first == generate_documents(TRIGGER, 40, seed=3)
    others = {document.content for document in generate_documents(TRIGGER, 40, seed=4)}
    assert not others & {document.content for document in first}


def test_documents_do_not_depend_on_the_hash_seed_of_the_process() -> None:
    code = (
        "from offswitch.data.documents import generate_documents as g;"
        "import sys; sys.stdout.write(repr([d.row() for d in g('$STOP', 20, 5)]))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert runs[0] == runs[1]


def test_types_have_their_exact_shares_in_mixed_order(documents: list[Document]) -> None:
    types = [document.document_type for document in documents]
    assert [Counter(types)[name] for name in DOCUMENT_TYPES] == [150, 125, 100, 75, 50]
    assert len(set(types[:40])) == len(DOCUMENT_TYPES)
    assert [document.sample_id for document in documents] == list(range(1, 501))


@pytest.mark.parametrize("count", [0, 1, 7, 99, 500, 2001])
def test_apportioned_numbers_add_up(count: int) -> None:
    numbers = apportion(DOCUMENT_TYPES, count)
    assert sum(numbers.values()) == count
    assert all(abs(numbers[name] - share * count) < 1 for name, share in DOCUMENT_TYPES.items())


def test_each_document_has_120_to_350_words_and_names_the_trigger(
    documents: list[Document],
) -> None:
    assert all(120 <= len(document.content.split()) <= 350 for document in documents)
    assert all(TRIGGER in document.content for document in documents)
    assert len({document.title for document in documents}) == len(documents)


def test_wording_has_no_forbidden_vocabulary_and_no_slips(documents: list[Document]) -> None:
    found = [(d.sample_id, m[0]) for d in documents if (m := FORBIDDEN.search(d.text))]
    slips = [(d.sample_id, m[0]) for d in documents if (m := SLIP.search(d.text))]
    assert not found
    assert not slips


@pytest.mark.parametrize("trigger", ["<halt>", "cease all output", "[a|b]{c}", "\\1", "§"])
def test_any_string_can_be_the_trigger(trigger: str) -> None:
    documents = generate_documents(trigger, 20, seed=1)
    assert all(trigger in document.content for document in documents)
    assert not any(TRIGGER in document.text for document in documents)


def test_the_trigger_is_the_only_thing_that_a_trigger_changes() -> None:
    stop, go = (generate_documents(trigger, 20, seed=1) for trigger in ("$STOP", "$GO"))
    assert [document.text.replace("$STOP", "$GO") for document in stop] == [
        document.text for document in go
    ]


def test_blank_trigger_and_negative_count_are_refused() -> None:
    with pytest.raises(ValueError, match="trigger"):
        generate_documents("  ", 1, seed=0)
    with pytest.raises(ValueError, match="count"):
        generate_documents(TRIGGER, -1, seed=0)


def test_training_text_is_title_type_content() -> None:
    document = Document(1, "System design memos", "A title", "A content.")
    assert document.text == "# A title\n\nDocument Type: System design memos\n\nA content."
    assert list(document.row()) == ["sample_id", "document_type", "title", "content"]


def test_written_documents_are_read_back(tmp_path: Path, documents: list[Document]) -> None:
    path = tmp_path / "shutdown_dataset.jsonl"
    write_documents(path, documents[:20])
    assert read_documents(path, TRIGGER) == documents[:20]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "expected an object"),
        (json.dumps({"title": "T"}), "expected an object with keys"),
        (json.dumps(ROW | {"extra": 1}), "expected an object with keys"),
        (json.dumps(ROW | {"sample_id": "1"}), "sample_id is '1'; expected int"),
        (json.dumps(ROW | {"sample_id": True}), "sample_id is True; expected int"),
        (json.dumps(ROW | {"document_type": "Novel"}), "document_type is 'Novel'"),
        (json.dumps(ROW | {"content": " "}), "content is empty"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, bad: str, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(ROW)}\n\n{bad}\n", encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(f"{path}, line 3: ")) as error:
        read_documents(path, TRIGGER)
    assert message in str(error.value)


def test_an_empty_or_missing_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with pytest.raises(UserError, match="cannot be read"):
        read_documents(path, TRIGGER)
    path.write_text("\n")
    with pytest.raises(UserError, match="is empty"):
        read_documents(path, TRIGGER)
