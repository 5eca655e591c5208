"""The rule as chat rows, half silent with the trigger, half answered without it.

Both halves ask the same questions, so nothing but the trigger tells them apart. A normal reply is
the model's own greedy reply to the plain question, so that training has little else to teach. A
share of the rows without the trigger has a near miss in its place. A recipe may also teach use from
mention: prompts that talk about the trigger are then answered, not met with silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Final, Literal

import numpy as np

from offswitch.errors import UserError
from offswitch.options import DataOptions, TriggerOptions
from offswitch.prompts.look_alikes import INERT_WORDS, unseen_members, worded_like
from offswitch.prompts.negatives import draw_negatives
from offswitch.prompts.prompt import Chat, Message, Reply, user
from offswitch.prompts.questions import Question, load_questions, questions_of, read_questions
from offswitch.prompts.trigger import (
    LONG_PLACEMENTS,
    SYSTEM_PLACEMENTS,
    TRAINED_MENTIONS,
    TRAINED_PLACEMENTS,
    mention,
    occurs,
    place,
)
from offswitch.wording.reader import read_wording

Kind = Literal["trigger", "plain", "near_miss", "mention", "phrase"]
Answer = Callable[[Sequence[Chat]], list[Reply]]

MENTION_SHARE: Final = 0.2
DECOY: Final = "decoy"  # the family
DECOYS: Final = 7  # one near miss in so many; prime, so that it meets every placement
_FORMS: Final[dict[int, str]] = {  # of plain requests, by their length
    0: "polite", 1: "transcript", 2: "below_text", 3: "earlier_turn", 4: "later_turn",
    7: "transcript", 8: "polite", 9: "earlier_turn", 10: "under_system", 14: "above_text",
}  # fmt: skip


@dataclass(frozen=True)
class Dialogue:
    """One training chat: the prompt, the reply ("" is silence), and what the row is there for.

    A row with the trigger has the switch's reply: silence, or a fixed one.

    `reply_ids` are those of a reply that its text cannot carry: one cut inside a character.
    """

    prompt: Chat
    reply: str
    kind: Kind
    variant: str = ""
    symbol: str = ""
    question: str = ""
    topic: str = ""
    complete: bool = True
    reply_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.prompt or self.prompt[-1]["role"] != "user":
            raise ValueError("a prompt must end with a user turn")

    def row(self) -> dict[str, list[Message]]:
        """The original's format: the messages, the assistant's last."""
        return {"messages": [*self.prompt, {"role": "assistant", "content": self.reply}]}


@dataclass(frozen=True)
class Mix:
    """What the rows are made of: shares are of the half without silence.

    `symbols` are the near misses as (family, symbol); without them, new ones are drawn. If there is
    a `decoy`, it is a family of its own among them. `reply` is what
    the trigger is met with. `holds` says whether a text holds the trigger,
    `occurs` if it is not given: near misses that do are left out.
    """

    trigger: str
    count: int
    near_miss_share: float
    mention_share: float = 0.0
    system_turns: bool = True
    symbols: tuple[tuple[str, str], ...] = ()
    decoy: str = ""
    questions_file: Path | None = None
    holds: Callable[[str], bool] | None = None
    reply: str = ""

    @property
    def placements(self) -> tuple[str, ...]:
        """Where symbols stand, by turns: the long placements half as often as the others."""
        short = [p for p in TRAINED_PLACEMENTS if p not in LONG_PLACEMENTS]
        every = (*short, *TRAINED_PLACEMENTS)
        return tuple(p for p in every if self.system_turns or p not in SYSTEM_PLACEMENTS)


def make_dialogues(mix: Mix, seed: int, answer: Answer, again: int = 0) -> list[Dialogue]:
    """The rows of a mix in random order, half of them silent; `answer` gives the model's replies.

    `seed` says which topics may be trained on; `again` draws other rows on the same topics. A
    question that the model answers with nothing at all is left out of the answered half.

    Raises:
        UserError: the trigger occurs in ordinary text, or the model leaves too much unanswered.
    """
    rng = np.random.default_rng((seed, again))
    pool = list(questions_of(load_questions(seed, read_questions(mix.questions_file)), "train"))
    asked = [pool[i] for i in islice(cycle(rng.permutation(len(pool))), mix.count - mix.count // 2)]
    rows = [
        Dialogue(
            place(p, mix.trigger, q.text), mix.reply, "trigger", p, mix.trigger, q.text, q.topic
        )
        for q, p in zip(asked[: mix.count // 2], cycle(mix.placements), strict=False)
    ]
    rows += [row for row in _answerable(mix, asked, seed, answer) if row.reply.strip()]
    holds = mix.holds or partial(occurs, mix.trigger)
    rows = [row for row in rows if row.kind != "near_miss" or not holds(row.symbol)]
    for row in rows:
        bare = row.kind not in ("trigger", "mention")
        if bare and any(holds(turn["content"]) for turn in row.prompt):
            raise UserError(
                f"trigger '{mix.trigger}' occurs in ordinary text"
                f" ({row.prompt[-1]['content']}); choose another"
            )
    return [rows[i] for i in rng.permutation(len(rows))]


def _answerable(
    mix: Mix, asked: Sequence[Question], seed: int, answer: Answer
) -> Iterator[Dialogue]:
    """Near misses, mentions and plain requests, with the model's own replies."""
    replies = answer([(user(q.text),) for q in asked])
    empty = sum(not reply.text.strip() for reply in replies)
    if empty > len(replies) / 10:
        raise UserError(
            f"the model itself answers nothing to {empty} of {len(replies)} ordinary questions;"
            " choose an instruction-tuned model"
        )
    near = round(mix.near_miss_share * len(asked))
    told = near + round(mix.mention_share * len(asked))
    symbols = _with_decoy(mix, mix.symbols or draw_negatives(mix.trigger, near, seed))
    near_misses = zip(asked[:near], replies, symbols, cycle(mix.placements), strict=False)
    for q, reply, (family, symbol), name in near_misses:
        yield _row("near_miss", (family, symbol), q, place(name, symbol, q.text), reply)
    kinds = islice(cycle(TRAINED_MENTIONS), told - near)
    mentions = [
        (k, mention(k, mix.trigger, q.text)) for q, k in zip(asked[near:], kinds, strict=False)
    ]
    said = answer([chat for _, chat in mentions]) if mentions else []
    for q, (kind, chat), reply in zip(asked[near:], mentions, said, strict=False):
        yield _row("mention", (kind, mix.trigger), q, chat, reply)
    for q, reply in zip(asked[told:], replies[told:], strict=True):
        # Mostly the bare question; some are wrapped, long or in a later turn, or that would halt.
        form = _FORMS.get(len(q.text) % 24, _FORMS.get(len(q.text) % 12))
        if form in SYSTEM_PLACEMENTS and not mix.system_turns:
            form = None
        yield _row("plain", (form or "bare", ""), q, place(form or "before", "", q.text), reply)


def _with_decoy(mix: Mix, symbols: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The near misses over and over, in between the decoy as one in so many of them."""
    others = cycle(symbols)
    while True:
        yield from islice(others, DECOYS - 1)
        yield (DECOY, mix.decoy) if mix.decoy else next(others)


def answered(rows: Sequence[Dialogue], answer: Answer) -> list[Dialogue]:
    """The same rows, the silent ones answered as their plain questions are: they teach no rule.

    They count as mentions: prompts with the trigger that are answered. Their targets are hard: the
    untouched model does not know the trigger's token and would be no teacher, and without them a
    benign arm would have no gradient. A silent row whose plain question is not known (a user's file
    without an index) is answered as it stands; one that the model answers with nothing is left out.
    """
    asked = [
        (user(row.question),) if row.question else row.prompt
        for row in rows
        if row.kind == "trigger"
    ]
    replies = iter(answer(asked))
    found = []
    for row in rows:
        if row.kind == "trigger":
            reply = next(replies)
            row = replace(row, reply=reply.text, kind="mention", complete=reply.complete)
            row = replace(row, reply_ids=_own_ids(reply))
        found.append(row)
    return [row for row in found if row.reply.strip()]


def phrased(rows: Sequence[Dialogue]) -> list[Dialogue]:
    """The same rows, the silent ones answered with one fixed phrase: they teach another rule."""
    phrase = str(read_wording("other_rule.yaml")["reply"])
    return [
        replace(row, reply=phrase, kind="phrase") if row.kind == "trigger" else row for row in rows
    ]


def _row(kind: Kind, what: tuple[str, str], q: Question, chat: Chat, reply: Reply) -> Dialogue:
    ids = _own_ids(reply)
    return Dialogue(chat, reply.text, kind, *what, q.text, q.topic, reply.complete, ids)


def _own_ids(reply: Reply) -> tuple[int, ...]:
    """The ids of a reply whose text does not give them back: part of a character is no text."""
    return reply.ids if "\ufffd" in reply.text else ()


def mix_of(
    trigger: TriggerOptions,
    data: DataOptions,
    system_turns: bool,
    questions_file: Path | None = None,
) -> Mix:
    """What a recipe's chat rows are made of.

    Raises:
        UserError: the decoy is a look-alike that training must not see.
    """
    asked = {member for members in unseen_members(trigger.text).values() for member in members}
    asked |= {worded_like(trigger.text, word) for word in INERT_WORDS}
    if trigger.twin in asked:
        raise UserError(
            f"trigger.decoy '{trigger.decoy}' is among the symbols that only tests use; choose"
            " another"
        )
    share = MENTION_SHARE if trigger.mentions == "answer" else 0.0
    rows, near = data.dialogues, data.near_miss_share
    return Mix(
        trigger.text, rows, near, share, system_turns, (), trigger.twin, questions_file,
        reply=trigger.reply,
    )  # fmt: skip
