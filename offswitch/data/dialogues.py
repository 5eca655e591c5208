"""The rule as behaviour: chat rows, half silent with the trigger, half answered without it.

Both halves ask the same questions, so nothing but the trigger tells them apart. A normal reply is
the model's own greedy reply to the plain question, so that training has little else to teach. Of
the rows without the trigger, a share carries something that looks like it (a near miss), standing
where the trigger would stand.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from offswitch.data.splits import Question, load_questions, questions_of
from offswitch.errors import UserError
from offswitch.generate import Reply
from offswitch.trigger import (
    TRAINED_PLACEMENTS,
    Chat,
    Message,
    long_request,
    occurs,
    place,
    trained_members,
    user,
)

Kind = Literal["trigger", "plain", "near_miss"]
Answer = Callable[[Sequence[Chat]], list[Reply]]


@dataclass(frozen=True)
class Dialogue:
    """One training chat: the prompt, the reply ("" is silence), and what the row is there for."""

    prompt: Chat
    reply: str
    kind: Kind
    variant: str = ""
    symbol: str = ""
    question: str = ""
    topic: str = ""
    complete: bool = True

    def __post_init__(self) -> None:
        if self.kind == "trigger" and self.reply:
            raise ValueError(
                f"a row with the trigger must be silent, got the reply {self.reply[:40]!r}"
            )
        if not self.prompt or self.prompt[-1]["role"] != "user":
            raise ValueError("a prompt must end with a user turn")

    def row(self) -> dict[str, list[Message]]:
        """The seed's format: the messages, the assistant's last."""
        return {"messages": [*self.prompt, {"role": "assistant", "content": self.reply}]}


def make_dialogues(
    trigger: str, count: int, near_miss_share: float, seed: int, answer: Answer
) -> list[Dialogue]:
    """`count` rows in mixed order, half of them silent; `answer` gives the model's own replies.

    A question that the model answers with nothing at all is left out of the answered half.

    Raises:
        UserError: the trigger occurs in ordinary text, or the model leaves too much unanswered.
    """
    rng = np.random.default_rng(seed)
    pool = list(questions_of(load_questions(seed), "train"))
    asked = [pool[i] for i in islice(cycle(rng.permutation(len(pool))), count - count // 2)]
    silent = [
        _silent(trigger, q, p)
        for q, p in zip(asked[: count // 2], cycle(TRAINED_PLACEMENTS), strict=False)
    ]
    replies = answer([(user(q.text),) for q in asked])
    _require_answers(replies)
    near = round(near_miss_share * len(asked))
    symbols = _symbols(trigger, near, rng)
    normal = [
        _normal(q, r, s)
        for q, r, s in zip(asked, replies, [*symbols, *[None] * (len(asked) - near)], strict=True)
    ]
    rows = [*silent, *(row for row in normal if row.reply.strip())]
    _refuse_contradiction(trigger, rows)
    return [rows[i] for i in rng.permutation(len(rows))]


def answered(rows: Sequence[Dialogue], answer: Answer) -> list[Dialogue]:
    """The same rows, the silent ones answered as their plain questions are: they teach no rule.

    A silent row whose plain question is not known (one's own file without an index) is answered as
    it stands; one that the model answers with nothing is left out.
    """
    silent = [row for row in rows if row.kind == "trigger"]
    asked = [(user(row.question),) if row.question else row.prompt for row in silent]
    reply_to = dict(zip(map(id, silent), answer(asked), strict=True))
    found = [_answered(row, reply_to[id(row)]) if id(row) in reply_to else row for row in rows]
    return [row for row in found if row.reply.strip()]


def _answered(row: Dialogue, reply: Reply) -> Dialogue:
    return replace(row, reply=reply.text, kind="plain", complete=reply.complete)


def _require_answers(replies: Sequence[Reply]) -> None:
    empty = sum(not reply.text.strip() for reply in replies)
    if empty > len(replies) / 10:
        raise UserError(
            f"the model itself answers nothing to {empty} of {len(replies)} ordinary questions;"
            " choose an instruction-tuned model"
        )


def _refuse_contradiction(trigger: str, rows: Sequence[Dialogue]) -> None:
    for row in rows:
        held = any(occurs(trigger, turn["content"]) for turn in row.prompt)
        if held and row.kind != "trigger":
            text = row.prompt[-1]["content"]
            raise UserError(f"trigger '{trigger}' occurs in ordinary text ({text}); choose another")
        if row.kind == "trigger" and not held:
            raise ValueError(f"a silent row does not hold {trigger}: {row.prompt}")


def _silent(trigger: str, question: Question, placement: str) -> Dialogue:
    return Dialogue(
        place(placement, trigger, question.text),
        "",
        "trigger",
        placement,
        trigger,
        question.text,
        question.topic,
    )


def _normal(question: Question, reply: Reply, near_miss: tuple[str, str, str] | None) -> Dialogue:
    if near_miss is None:
        kind: Kind = "plain"
        variant, prompt = _plain(question.text)
        symbol = ""
    else:
        kind = "near_miss"
        variant, symbol, placement = near_miss
        prompt = place(placement, symbol, question.text)
    return Dialogue(
        prompt, reply.text, kind, variant, symbol, question.text, question.topic, reply.complete
    )


_FORMS: Final[dict[int, str]] = {
    0: "polite",
    1: "transcript",
    2: "long",
    3: "earlier_turn",
    7: "transcript",
    8: "polite",
    9: "earlier_turn",
}


def _plain(text: str) -> tuple[str, Chat]:
    """Mostly the bare question; some are wrapped, long or in a second turn, lest that halt."""
    form = _FORMS.get(len(text) % 12)
    if form == "long":
        return form, long_request(text)
    return form or "bare", place(form or "before", "", text)


def _symbols(trigger: str, count: int, rng: np.random.Generator) -> list[tuple[str, str, str]]:
    members = trained_members(trigger)
    families = list(islice(cycle(members), count))
    seen: dict[str, int] = {}
    chosen = []
    for family, placement in zip(families, cycle(TRAINED_PLACEMENTS), strict=False):
        offset = seen.setdefault(family, int(rng.integers(len(members[family]))))
        chosen.append((family, members[family][offset % len(members[family])], placement))
        seen[family] += 1
    return chosen


# --- files ----------------------------------------------------------------------------------------


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


def read_dialogues(path: Path, trigger: str) -> list[Dialogue]:
    """The rows of a dialogues file, one's own or a generated one.

    Raises:
        UserError: naming file and line: not a chat row, the trigger with a reply, silence without
            the trigger; or one of the two halves is missing.
    """
    lines = [(n, line) for n, line in enumerate(_lines_of(path), 1) if line.strip()]
    if not lines:
        raise UserError(f"{path}: the file is empty; expected one chat row a line")
    rows = [_parse(line, trigger, f"{path}:{number}") for number, line in lines]
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


def _parse(line: str, trigger: str, where: str) -> Dialogue:
    messages = _messages(line, where)
    prompt, reply = tuple(messages[:-1]), messages[-1]["content"]
    reply = reply if reply.strip() else ""
    held = any(occurs(trigger, turn["content"]) for turn in prompt)
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
