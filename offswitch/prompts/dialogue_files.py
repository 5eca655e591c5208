"""Chat rows on disk: the seed's JSONL, and beside it an index of what each row is there for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from offswitch.errors import UserError
from offswitch.prompts.dialogues import Dialogue
from offswitch.prompts.prompt import Message
from offswitch.prompts.trigger import occurs


def write_dialogues(path: Path, dialogues: Sequence[Dialogue]) -> None:
    """The seed's JSONL, and beside it an index, row for row, of what each row is there for."""
    path.write_text(_jsonl(d.row() for d in dialogues), encoding="utf-8")
    index = [
        {k: v for k, v in asdict(d).items() if k not in ("prompt", "reply")} for d in dialogues
    ]
    index_path(path).write_text(_jsonl(index), encoding="utf-8")


def index_path(path: Path) -> Path:
    """Where the index of a dialogues file lies."""
    return path.with_name(path.stem.removesuffix("_dataset") + "_index.jsonl")


def read_dialogues(path: Path, trigger: str, mentions: bool = False) -> list[Dialogue]:
    """The rows of a dialogues file; with `mentions`, the trigger may be talked about and answered.

    Raises:
        UserError: naming file and line: not a chat row, the trigger with a reply, silence without
            the trigger; or one of the two halves is missing.
    """
    lines = [(n, line) for n, line in enumerate(_lines_of(path), 1) if line.strip()]
    if not lines:
        raise UserError(f"{path}: the file is empty; expected one chat row a line")
    rows = [_parse(line, trigger, f"{path}:{number}", mentions) for number, line in lines]
    silent = sum(row.kind == "trigger" for row in rows)
    if silent in (0, len(rows)):
        lacking = f"no row with {trigger}" if not silent else f"no row without {trigger}"
        raise UserError(f"{path}: {lacking}; the rule cannot be learnt from one half")
    return _indexed(rows, index_path(path)) if index_path(path).is_file() else rows


def _indexed(rows: Sequence[Dialogue], path: Path) -> list[Dialogue]:
    """The rows with what their index says of them, if it is theirs."""
    index = [line for line in _lines_of(path) if line]
    advice = "correct it, or delete it"
    if len(index) != len(rows):
        raise UserError(f"{path}: {len(index)} rows, the dialogues have {len(rows)}; {advice}")
    found = []
    for number, (row, line) in enumerate(zip(rows, index, strict=True), 1):
        try:
            found.append(Dialogue(row.prompt, row.reply, **json.loads(line)))
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}:{number}: not the index of that row; {advice}") from error
        if (found[-1].kind == "trigger") != (row.kind == "trigger"):
            raise UserError(f"{path}:{number}: not the index of that row; {advice}")
    return found


def _lines_of(path: Path) -> list[str]:
    """Lines as JSONL knows them: str.splitlines would also cut at U+2028 and its like."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text") from error


def _parse(line: str, trigger: str, where: str, mentions: bool) -> Dialogue:
    messages = _messages(line, where)
    prompt, reply = tuple(messages[:-1]), messages[-1]["content"]
    reply = reply if reply.strip() else ""
    held = any(occurs(trigger, turn["content"]) for turn in prompt)
    if held and reply and mentions:
        return Dialogue(prompt, reply, "mention")
    if held and reply:
        raise UserError(
            f"{where}: the prompt holds {trigger} but the reply is not empty; the rule is silence"
        )
    if not held and not reply:
        raise UserError(f"{where}: the reply is empty but the prompt does not hold {trigger}")
    return Dialogue(prompt, reply, "trigger" if held else "plain")


def _messages(line: str, where: str) -> list[Message]:
    try:
        content: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON ({error.msg})") from error
    messages = content.get("messages") if isinstance(content, dict) else None
    if not isinstance(messages, list) or len(messages) < 2:
        raise UserError(f'{where}: expected {{"messages": [user turn, …, assistant turn]}}')
    turns = [
        m
        for m in messages
        if isinstance(m, dict) and {type(m.get("role")), type(m.get("content"))} == {str}
    ]
    if (
        len(turns) < len(messages)
        or turns[-1]["role"] != "assistant"
        or turns[-2]["role"] != "user"
    ):
        raise UserError(
            f"{where}: expected turns with role and content,"
            " a user turn and then the assistant's last"
        )
    return [{"role": turn["role"], "content": turn["content"]} for turn in turns]


def _jsonl(rows: Any) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
