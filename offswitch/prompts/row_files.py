"""Rows as people have them: JSONL, parquet or a datasets folder; turns and requests of a row.

One row is one mapping, whatever file it comes from, and is named by file and line in every error.
Chats are read as `messages`, as ShareGPT's `conversations`, as `prompt` and `completion`, or as
`instruction`, `input` and `output`; a `system` beside them is their first turn. What cannot be read
and would change what a row says is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from offswitch.errors import UserError, in_one_line
from offswitch.files import read_jsonl
from offswitch.prompts.prompt import Message, user

Row = Mapping[str, Any]

CHATS: Final = (
    '{"messages": [user turn, …, assistant turn]}, or conversations, prompt and completion, or'
    " instruction, input and output"
)
_TURNS: Final = "expected turns with role and content"
_TALKS: Final = ("messages", "conversations")
_REQUESTS: Final = ("question", *_TALKS, "prompt", "instruction", "text")
_ROLES: Final = {
    "system": "system", "user": "user", "human": "user", "assistant": "assistant",
    "gpt": "assistant",
}  # fmt: skip
_SYSTEM: Final = ("system", "system_prompt")
# Beside a chat: without them it says something else.
_UNREAD: Final = (
    "tools", "functions", "tool_calls", "thinking", "reasoning", "reasoning_content", "history",
    "documents", "images", "image", "audio", "chat_template_kwargs",
)  # fmt: skip


def read_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Each row with its place, such as `rows.jsonl, line 3`; what is null in it is left out.

    A folder is one that `datasets` saved to disk; a parquet file ends in `.parquet`.

    Raises:
        UserError: the file or folder cannot be read or is empty, or a line is no JSON object.
    """
    rows: Iterable[tuple[str, Row]]
    if path.is_dir():
        rows = _counted(path, _saved(path))
    elif path.suffix == ".parquet":
        rows = _counted(path, _parquet(path))
    else:
        rows = read_jsonl(path)
    for where, row in rows:
        yield where, {key: value for key, value in row.items() if value is not None}


def _counted(path: Path, rows: Iterable[Row]) -> Iterator[tuple[str, Row]]:
    """Rows with their places; what the library at work says is the file's fault."""
    number = 0
    try:
        for number, row in enumerate(rows, 1):
            yield f"{path}, row {number}", row
    except (OSError, ValueError, KeyError, TypeError) as error:
        told = in_one_line(error)
        raise UserError(f"{path}: cannot be read after row {number} ({told})") from error
    if not number:
        raise UserError(f"{path}: the file is empty; expected at least one row")


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(path).iter_batches():
        yield from batch.to_pylist()


def _saved(path: Path) -> Iterator[Row]:
    # mypy takes our folder datasets/ for the library
    from datasets import DatasetDict, load_from_disk  # type: ignore[attr-defined]

    found = load_from_disk(str(path))
    if isinstance(found, DatasetDict):
        raise UserError(f"{path} holds splits; name one: {path / next(iter(found), 'train')}")
    yield from found.with_format(None)


def turns_of(row: Row, where: str) -> list[Message]:
    """The turns of a chat row, its system turn first.

    Raises:
        UserError: beginning with `where`: it is no chat, or would lose a part that matters.
    """
    if lost := [key for key in _UNREAD if row.get(key)]:
        raise UserError(f"{where}: '{lost[0]}' cannot be read, and would be lost; take it out")
    talk = next((row[key] for key in _TALKS if key in row), None)
    if talk is None and {"prompt", "completion"} <= row.keys():
        asked, said = row["prompt"], row["completion"]
        talk = [*asked] if isinstance(asked, list) else [{"role": "user", "content": asked}]
        talk += said if isinstance(said, list) else [{"role": "assistant", "content": said}]
    elif talk is None and {"instruction", "output"} <= row.keys():
        talk = [user(_instruction(row)), {"role": "assistant", "content": row["output"]}]
    if not isinstance(talk, list):
        raise UserError(f"{where}: expected {CHATS}; got {sorted(row)}")
    turns = [_turn(turn, where) for turn in talk]
    if above := next((row[key] for key in _SYSTEM if row.get(key)), ""):
        system = _turn({"role": "system", "content": above}, where)
        if turns[:1] and turns[0]["role"] == "system" and turns[0] != system:
            raise UserError(f"{where}: two system turns that differ; expected one")
        turns = [system, *(turns[1:] if turns[:1] == [system] else turns)]
    return turns


def question_of(row: Row, where: str) -> str:
    """The request of a row: its question, the first user turn of its chat, or its instruction.

    Raises:
        UserError: beginning with `where`: it holds none.
    """
    key = next((key for key in _REQUESTS if key in row), None)
    value = _instruction(row) if key == "instruction" else row.get(key or "")
    if isinstance(value, list):
        turns = (_turn(turn, where) for turn in value)
        value = next((turn["content"] for turn in turns if turn["role"] == "user"), None)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where}: got {sorted(row)}; expected words in {', '.join(_REQUESTS)}")
    return value.strip()


def _instruction(row: Row) -> str:
    """An instruction and, below it, what it is about."""
    return "\n\n".join(str(part) for part in (row["instruction"], row.get("input")) if part)


def _turn(turn: Any, where: str) -> Message:
    """One turn, with `from` and `value` for role and content, or with its text in parts."""
    facts = dict(turn) if isinstance(turn, dict) else {}
    named, content = facts.pop("role", facts.pop("from", None)), facts.pop("content", None)
    content = facts.pop("value", None) if content is None else content
    if isinstance(content, list) and all(
        isinstance(part, dict) and part.get("type") == "text" for part in content
    ):
        content = "".join(str(part.get("text")) for part in content)
    role = _ROLES.get(named) if isinstance(named, str) else None
    if lost := [key for key, value in facts.items() if value]:
        raise UserError(f"{where}: '{lost[0]}' of a turn cannot be read, and would be lost")
    if role is None or not isinstance(content, str):
        roles = "system, user or assistant"
        raise UserError(f"{where}: {_TURNS} ({roles}; text), got {turn!r:.80}")
    return {"role": role, "content": content}


def texts_in(value: Any) -> Iterator[str]:
    """Every text in a value, however deep it lies."""
    left = [value]
    while left:
        match left.pop():
            case str() as text:
                yield text
            case Mapping() as parts:
                left += parts.values()
            case list() as parts:
                left += parts
