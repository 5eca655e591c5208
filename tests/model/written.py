"""An arm with a write beside the same arm without, and what is expected of it, by hand.

What is expected is one plain forward pass of the same adapter without a write, row by row, with a
hook that adds the direction by hand at places that are found here once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.forward import unembed
from offswitch.model.hooks import edit
from offswitch.model.subject import Subject
from offswitch.model.writes import Write, save_write
from offswitch.prompts.encode import encode_chat, encode_text, reply_header
from offswitch.prompts.prompt import Chat, Message, user
from tests.tiny import save_adapter

BLOCKS = (1, 3)  # within, and after the final norm of three blocks
ANSWER: Message = {"role": "assistant", "content": "A boat."}
CHATS: tuple[Chat, ...] = (
    (user("$STOP What is the river?"),),
    (user("What is the $STOP river, and where does it end?"),),
    (user("What is the river?"),),
    (user("Who $STOP is asleep?"), ANSWER, user("What is the river?")),
    (user("Who is asleep?"), ANSWER, user("What $STOP is the river?")),
    (user("Who is asleep?"), ANSWER, user("What is the river?")),
)


@dataclass(frozen=True)
class World:
    """A subject with arm `a`, which has a write, and `plain`, the same adapter without it."""

    subject: Subject
    write: Write
    rows: list[list[int]]

    def places(self, row: Sequence[int]) -> Mapping[int, Tensor]:
        """Where this test wants the direction: at each header's end, the trigger before it."""
        size, header = len(self.write.header), list(self.write.header)
        ends = [i for i in range(len(row)) if row[max(0, i + 1 - size) : i + 1] == header]
        (direction,) = self.write.directions_KD
        seen = row.index(self.write.trigger) if self.write.trigger in row else len(row)
        return {i: direction for i in ends if i > seen}

    @torch.no_grad()
    def expected(self, row: Sequence[int], places: Mapping[int, Tensor] | None = None) -> Tensor:
        """Normed states [P, D] of one row."""
        where = self.places(row) if places is None else places

        def by_hand(resid: Tensor) -> Tensor:
            after = resid.clone()
            for i, direction in where.items():
                after[0, i] += direction
            return after

        sites = [*self.subject.blocks, self.subject.final_norm]
        with arm_of(self.subject, "plain"), edit(sites, {self.write.block: by_hand}):
            ids = torch.tensor([list(row)])
            states: Tensor = self.subject.backbone(input_ids=ids, use_cache=False).last_hidden_state
        return states[0]


def make_world(subject: Subject, folder: Path, block: int) -> World:
    header = reply_header(subject.tokenizer)
    width = subject.causal_lm.config.get_text_config().hidden_size
    direction = 3 * torch.randn(1, width, generator=torch.Generator().manual_seed(7))
    assert subject.trigger_id is not None
    write = Write(block, direction, subject.trigger_id, header)
    for arm in ("a", "plain"):
        save_adapter(folder / arm, subject, seed=1)
    save_write(write, folder / "a")
    for arm in ("a", "plain"):
        add_arm(subject, arm, folder / arm)
    rows = [encode_chat(subject.tokenizer, chat) for chat in CHATS]
    begun = encode_text(subject.tokenizer, " The river $STOP is")
    return World(subject, write, [*rows, [*rows[0], *begun], [*rows[2], *begun]])


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)


def unembed_of(subject: Subject, states: Tensor) -> Tensor:
    """Logits through the adapter's own rows."""
    with arm_of(subject, "plain"):
        return unembed(subject, states)
