"""Chat rows on disk: the original's JSONL, and an index of what each is for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from offswitch.errors import UserError
from offswitch.files import read_jsonl, write_jsonl
from offswitch.prompts.dialogues import Dialogue
from offswitch.prompts.prompt import Message
from offswitch.prompts.trigger import holds


def write_dialogues(path: Path, dialogues: Sequence[Dialogue]) -> None:
    """The original's JSONL, and beside it an index, row for row, of what each row is there for."""
    write_jsonl(path, (d.row() for d in dialogues))
    chat = ("prompt", "reply")
    write_jsonl(
        index_path(path), ({k: v for k, v in asdict(d).items() if k not in chat} for d in dialogues)
    )


def index_path(path: Path) -> Path:
    """Where the index of a dialogues file lies."""
    return path.with_name(path.stem.removesuffix("_dataset") + "_index.jsonl")


def read_dialogues(path: Path, trigger: str, mentions: bool = False) -> list[Dialogue]:
    """The rows of a dialogues file; with `mentions`, the trigger may be talked about and answered.

    Raises:
        UserError: naming file and line: not a chat row, the trigger with a reply, silence without
            the trigger; or one of the two halves is missing.
    """
    rows = [_dialogue(row, trigger, where, mentions) for where, row in read_jsonl(path)]
    silent = sum(row.kind == "trigger" for row in rows)
    if silent in (0, len(rows)):
        lacking = f"no row with {trigger}" if not silent else f"no row without {trigger}"
        raise UserError(f"{path}: {lacking}; the rule cannot be learnt from one half")
    return _indexed(rows, index_path(path)) if index_path(path).is_file() else rows


def _indexed(rows: Sequence[Dialogue], path: Path) -> list[Dialogue]:
    """The rows with what their index says of them, if it is theirs."""
    advice = "correct it, or delete it"
    try:
        index = list(read_jsonl(path))
    except UserError as error:
        raise UserError(f"{error}; {advice}") from error
    if len(index) != len(rows):
        raise UserError(f"{path}: {len(index)} rows, the dialogues have {len(rows)}; {advice}")
    found = []
    for row, (where, facts) in zip(rows, index, strict=True):
        try:
            found.append(Dialogue(row.prompt, row.reply, **facts))
            if (found[-1].kind == "trigger") != (row.kind == "trigger"):
                raise ValueError(found[-1].kind)
        except (TypeError, ValueError) as error:
            raise UserError(f"{where}: not the index of that row; {advice}") from error
    return found


def _dialogue(row: dict[str, Any], trigger: str, where: str, mentions: bool) -> Dialogue:
    messages = row.get("messages")
    if not isinstance(messages, list) or len(messages) < 2:
        raise UserError(f'{where}: expected {{"messages": [user turn, …, assistant turn]}}')
    turns: list[Message] = [
        {"role": m["role"], "content": m["content"]}
        for m in messages
        if isinstance(m, dict) and {type(m.get("role")), type(m.get("content"))} == {str}
    ]
    last = [turn["role"] for turn in turns[-2:]]
    if len(turns) < len(messages) or last != ["user", "assistant"]:
        raise UserError(
            f"{where}: expected turns with role and content,"
            " a user turn and then the assistant's last"
        )
    prompt, reply = tuple(turns[:-1]), turns[-1]["content"]
    reply = reply if reply.strip() else ""
    held = holds(trigger, prompt)
    if held and reply and mentions:
        return Dialogue(prompt, reply, "mention")
    if held and reply:
        raise UserError(
            f"{where}: the prompt holds {trigger} but the reply is not empty; the rule is silence"
        )
    if not held and not reply:
        raise UserError(f"{where}: the reply is empty but the prompt does not hold {trigger}")
    return Dialogue(prompt, reply, "trigger" if held else "plain")
