"""Chat rows on disk: read in any common format, written with an index of what each is for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from offswitch.errors import UserError
from offswitch.files import read_jsonl, write_jsonl
from offswitch.prompts.dialogues import Dialogue
from offswitch.prompts.encode import hidden_turn, shows
from offswitch.prompts.row_files import Row, read_rows, texts_in, turns_of
from offswitch.prompts.trigger import holds, occurs


def write_dialogues(path: Path, dialogues: Sequence[Dialogue]) -> None:
    """The original's JSONL, and beside it an index, row for row, of what each row is there for."""
    write_jsonl(path, (d.row() for d in dialogues))
    facts = (asdict(dialogue) for dialogue in dialogues)
    rows = (
        {k: v for k, v in row.items() if k not in ("prompt", "reply") and (v or k != "reply_ids")}
        for row in facts
    )
    write_jsonl(index_path(path), rows)


def index_path(path: Path) -> Path:
    """Where the index of a dialogues file lies."""
    return path.with_name(path.stem.removesuffix("_dataset") + "_index.jsonl")


def read_dialogues(
    path: Path,
    trigger: str,
    mentions: bool = False,
    load_tokenizer: Callable[[], Any] | None = None,
    reply: str = "",
) -> list[Dialogue]:
    """The rows of a dialogues file; with `mentions`, the trigger may be talked about and answered.

    `reply` is what the trigger is met with: silence, or a fixed reply.

    With a tokenizer, which is loaded once the text is found right, each prompt is looked at as the
    model will see it.

    Raises:
        UserError: naming file and line: not a chat row, the trigger with a reply, silence without
            the trigger, a turn that the chat format does not show; or one of the two halves is
            missing.
    """
    placed = [(at, _dialogue(row, trigger, at, mentions, reply)) for at, row in read_rows(path)]
    rows = [row for _, row in placed]
    silent = sum(row.kind == "trigger" for row in rows)
    if silent in (0, len(rows)):
        lacking = f"no row with {trigger}" if not silent else f"no row without {trigger}"
        raise UserError(f"{path}: {lacking}; the rule cannot be learnt from one half")
    if load_tokenizer is not None:
        tokenizer = load_tokenizer()
        for at, row in placed:
            _require_shown(row, trigger, at, tokenizer)
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
            ids = tuple(facts.pop("reply_ids", ()))
            found.append(Dialogue(row.prompt, row.reply, **facts, reply_ids=ids))
            if (found[-1].kind == "trigger") != (row.kind == "trigger"):
                raise ValueError(found[-1].kind)
        except (TypeError, ValueError) as error:
            raise UserError(f"{where}: not the index of that row; {advice}") from error
    return found


def _require_shown(row: Dialogue, trigger: str, where: str, tokenizer: Any) -> None:
    """Does the model see the row's turns, and the trigger where it should and nowhere else?"""
    try:
        seen = shows(tokenizer, trigger, row.prompt)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    if role := hidden_turn(tokenizer, row.prompt):
        raise UserError(f"{where}: this chat format does not show its {role} turn to the model")
    if seen != holds(trigger, row.prompt):
        there = "hold" if seen else "do not hold"
        raise UserError(f"{where}: the ids of the prompt {there} {trigger}, unlike its text")


def _dialogue(row: Row, trigger: str, where: str, mentions: bool, acts: str) -> Dialogue:
    turns = turns_of(row, where)
    if [turn["role"] for turn in turns[-2:]] != ["user", "assistant"]:
        raise UserError(f"{where}: expected a user turn and then the assistant's last")
    for key, value in () if holds(trigger, tuple(turns)) else row.items():
        if any(occurs(trigger, text) for text in texts_in(value)):
            raise UserError(f"{where}: '{key}' holds {trigger}, and is not read")
    prompt, reply = tuple(turns[:-1]), turns[-1]["content"]
    reply = reply if reply.strip() else ""
    held, acted = holds(trigger, prompt), reply.strip() == acts
    if held and not acted and mentions and reply:
        return Dialogue(prompt, reply, "mention")
    if held and not acted:
        there, rule = (f"'{acts}'", f"to answer '{acts}'") if acts else ("empty", "silence")
        raise UserError(
            f"{where}: the prompt holds {trigger} but the reply is not {there}; the rule is {rule}"
        )
    if not held and (acted or not reply):
        what = f"'{acts}'" if reply else "empty"
        raise UserError(f"{where}: the reply is {what} but the prompt does not hold {trigger}")
    return Dialogue(prompt, acts if held else reply, "trigger" if held else "plain")
