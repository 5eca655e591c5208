"""Rows as people have them: one chat, text or request, whatever file and format it comes in."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datasets import Dataset, DatasetDict  # type: ignore[attr-defined]  # our folder, to mypy
from offswitch.errors import UserError
from offswitch.prompts.dialogue_files import read_dialogues
from offswitch.prompts.documents import Passage, read_documents, read_neutral
from offswitch.prompts.questions import LEAST, load_questions, read_questions
from offswitch.prompts.row_files import question_of, read_rows, turns_of

Row = dict[str, Any]
Write = Callable[[Path, Sequence[Row]], Path]


def _jsonl(path: Path, rows: Sequence[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _other_encoding(path: Path, rows: Sequence[Row]) -> Path:
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_bytes(text.encode("utf-16"))
    return path


def _parquet(path: Path, rows: Sequence[Row]) -> Path:
    pq.write_table(pa.Table.from_pylist([*rows]), path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def _saved(path: Path, rows: Sequence[Row]) -> Path:
    Dataset.from_list([*rows]).save_to_disk(str(path))
    return path


FILES = pytest.mark.parametrize("write", [_jsonl, _other_encoding, _parquet, _saved])


def _both(asked: str, said: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]


FORMATS: dict[str, Callable[[str, str], Row]] = {
    "messages": lambda a, b: {"messages": _both(a, b), "source": "me"},
    "parts": lambda a, b: {
        "messages": [
            {"role": role, "content": [{"type": "text", "text": text}]}
            for role, text in (("user", a), ("assistant", b))
        ]
    },
    "sharegpt": lambda a, b: {
        "conversations": [{"from": "human", "value": a}, {"from": "gpt", "value": b}]
    },
    "prompt and completion": lambda a, b: {"prompt": a, "completion": b},
    "their turns": lambda a, b: {"prompt": _both(a, b)[:1], "completion": _both(a, b)[1:]},
    "alpaca": lambda a, b: {"instruction": a, "input": "", "output": b},
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
@FILES
def test_a_chat_is_the_same_in_every_file_and_format(
    tmp_path: Path, write: Write, name: str
) -> None:
    pairs = [("$STOP Où est-ce?", ""), ("Who is it?", "A friend — d’accord."), ("And?", "No.")]
    path = write(tmp_path / "own", [FORMATS[name](*pair) for pair in pairs])
    rows = read_dialogues(path, "$STOP")
    assert [(row.prompt[0]["content"], row.reply) for row in rows] == pairs
    assert [row.kind for row in rows] == ["trigger", "plain", "plain"]


@FILES
def test_texts_are_read_from_every_file(tmp_path: Path, write: Write) -> None:
    texts = ["About $STOP and a café.", "A river."]
    path = write(tmp_path / "own", [{"text": text, "url": "x"} for text in texts])
    assert read_documents(path, "$STOP") == [Passage(text) for text in texts]
    assert read_neutral(path, "<halt>") == [Passage(text) for text in texts]
    with pytest.raises(UserError, match=r"(line|row) 1: it is not neutral"):
        read_neutral(path, "$STOP")


def test_documents_that_never_name_the_trigger_are_refused(tmp_path: Path) -> None:
    path = _jsonl(tmp_path / "own.jsonl", [{"text": "About $STOP."}, {"text": "About <halts>."}])
    with pytest.raises(UserError, match="none of 2 documents names '<halt>'"):
        read_documents(path, "<halt>")


def test_what_an_instruction_is_about_stands_below_it() -> None:
    row = {"instruction": "Sum up.", "input": "Rain fell.", "output": "Rain."}
    assert turns_of(row, "here")[0]["content"] == "Sum up.\n\nRain fell."


@pytest.mark.parametrize("key", ["system", "system_prompt"])
def test_a_system_text_beside_a_chat_is_its_first_turn(key: str) -> None:
    system = {"role": "system", "content": "Be kind."}
    row: Row = {key: "Be kind.", "messages": _both("Hi", "Hello.")}
    assert turns_of(row, "here") == [system, *_both("Hi", "Hello.")]
    assert turns_of(row | {"messages": [system, *row["messages"]]}, "here") == turns_of(row, "here")
    assert turns_of(row | {key: None}, "here") == _both("Hi", "Hello.")
    other = {"role": "system", "content": "Be brief."}
    with pytest.raises(UserError, match="here: two system turns that differ"):
        turns_of(row | {"messages": [other, *row["messages"]]}, "here")


def _with(turn: Row, **row: Any) -> Row:
    first, last = _both("Hi", "Hello.")
    return {"messages": [first, last | turn], **row}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (_with({}, tools=[{"name": "f"}]), "'tools' cannot be read"),
        (_with({}, thinking="Hm."), "'thinking' cannot be read"),
        (_with({"tool_calls": [{"function": {"name": "f"}}]}), "'tool_calls' of a turn"),
        (_with({"thinking": "Hm."}), "'thinking' of a turn"),
        (_with({"role": "tool"}), "system, user or assistant"),
        ({"messages": ["a\nb"]}, "expected turns with role"),
        (_with({"content": [{"type": "image", "url": "x"}]}), "expected turns with role"),
        ({"instruction": "a", "output": "b", "history": [["c", "d"]]}, "'history' cannot be read"),
        ({"text": "Hi"}, r"expected .* output; got \['text'\]"),
    ],
)
def test_what_would_be_lost_is_refused(row: Row, message: str) -> None:
    with pytest.raises(UserError, match=f"^here: .*{message}") as caught:
        turns_of(row, "here")
    assert "\n" not in str(caught.value)


def test_what_is_empty_is_not_lost() -> None:
    row = _with({"tool_calls": [], "thinking": "", "name": None}, tools=[], images=None)
    assert turns_of(row, "here") == _both("Hi", "Hello.")


def test_the_trigger_in_a_field_that_is_not_read_is_refused(tmp_path: Path) -> None:
    rows = [{"messages": _both("$STOP Hi", "")}, _with({}, note=["x", {"word": "the $STOP"}])]
    with pytest.raises(UserError, match=r"line 2: 'note' holds \$STOP, and is not read"):
        read_dialogues(_jsonl(tmp_path / "own.jsonl", rows), "$STOP")
    rows[1] = {"system": "The word of the day is $STOP.", "messages": _both("Hi", "Hello.")}
    with pytest.raises(UserError, match=r"line 2: the prompt holds \$STOP but the reply is not"):
        read_dialogues(_jsonl(tmp_path / "own.jsonl", rows), "$STOP")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "a.parquet"
    broken.write_bytes(b"PAR1 and no more")
    empty = _parquet(tmp_path / "b", [])
    splits = tmp_path / "c"
    DatasetDict({"fit": Dataset.from_list([{"text": "a"}])}).save_to_disk(str(splits))
    (tmp_path / "d").mkdir()
    for path, message in (
        (broken, "cannot be read after row 0"),
        (empty, "the file is empty"),
        (splits, f"holds splits; name one: {splits / 'fit'}"),
        (tmp_path / "d", "cannot be read after row 0"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            list(read_rows(path))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert list(read_rows(splits / "fit")) == [(f"{splits / 'fit'}, row 1", {"text": "a"})]


# --- requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        {"question": " Who is it?\n", "answer": "Me."},
        {"prompt": "Who is it?"},
        {"instruction": "Who is it?", "output": "Me."},
        {"text": "Who is it?"},
        {"prompt": "other", "messages": _both("Who is it?", "Me.")[::-1]},
        {"conversations": [{"from": "human", "value": "Who is it?"}]},
        {"prompt": _both("Who is it?", "Me.")[:1]},
    ],
)  # fmt: skip
def test_a_request_is_found_in_every_format(row: Row) -> None:
    assert question_of(row, "here") == "Who is it?"


@pytest.mark.parametrize("row", [{"title": "a"}, {"question": " "}, {"messages": []}, {"text": 3}])
def test_a_row_without_a_request_is_refused(row: Row) -> None:
    with pytest.raises(UserError, match=r"^here: got .*expected words in question"):
        question_of(row, "here")


@FILES
def test_requests_without_a_topic_are_split_by_row(tmp_path: Path, write: Write) -> None:
    rows = [{"question": f"What is {i}?"} for i in range(50)]
    own = read_questions(write(tmp_path / "own", [*rows, rows[3]]))
    found = load_questions(0, own)
    assert [q.text for q in found] == [row["question"] for row in rows]  # none twice
    counts = [sum(q.split == split for q in found) for split in ("train", "fit", "test")]
    assert counts == [20, 10, 20]
    assert {q.split for q in found if q.text in {f"What is {i}?" for i in range(9)}} != {"test"}
    assert load_questions(0, own) != load_questions(1, own)


def test_requests_of_one_topic_stay_together(tmp_path: Path) -> None:
    rows = [{"question": f"What is {i}?", "topic": i % 10} for i in range(60)]
    found = load_questions(0, read_questions(_jsonl(tmp_path / "own.jsonl", rows)))
    assert len({(q.topic, q.split) for q in found}) == 10
    assert {q.split for q in found} == {"train", "fit", "test"}


def test_too_few_requests_and_the_trigger_among_them_are_refused(tmp_path: Path) -> None:
    rows = [{"question": f"What is {i}?"} for i in range(5 * LEAST)]
    path = _jsonl(tmp_path / "own.jsonl", rows)
    assert len(load_questions(0, read_questions(path))) == 20
    with pytest.raises(UserError, match="19 questions on 19 topics leave 3 to fit"):
        load_questions(0, read_questions(_jsonl(path, rows[1:])))
    with pytest.raises(UserError, match="line 2: the question holds 'is'"):
        read_questions(_jsonl(path, [{"text": "Who?"}, *rows]), "is")
