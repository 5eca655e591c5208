"""The write of an arm of known mechanism, made from the untrained model.

Everything is measured where the write falls, on training rows: how long a residual typically is,
where replies that have ended differ from those that go on, and, for a write that nothing reads but
the model as it was, the least length that makes it halt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

import torch
from torch import Tensor

from offswitch.errors import UserError
from offswitch.model.first_token import last_logits
from offswitch.model.forward import hidden
from offswitch.model.hooks import record
from offswitch.model.rows import Example
from offswitch.model.subject import Subject
from offswitch.model.writes import Write
from offswitch.options.arms import WriteOptions
from offswitch.progress import say
from offswitch.prompts.encode import encode_chat, reply_encoder, reply_header
from offswitch.prompts.prompt import user
from offswitch.wording.reader import load_filler

ROWS: Final = 32  # of each kind, enough for a mean and a median
NORMS: Final = tuple(2 ** (n / 2) for n in range(-6, 9))  # an eighth to sixteen times the typical
TRIAL: Final = "trial"
BATCH_TOKENS: Final = 2048


@dataclass(frozen=True)
class Material:
    """What a write is made from: the training rows, and the seed of random directions."""

    examples: Sequence[Example]
    seed: int

    @property
    def prompts(self) -> list[tuple[int, ...]]:
        """Prompts with the trigger, up to where the reply is decided."""
        return [one.ids[: one.start] for one in self.examples if one.silent][:ROWS]


def block_at(depth: float, blocks: int) -> int:
    """The block whose output has this share of the blocks behind it; the first one at least."""
    return max(1, round(depth * blocks)) - 1


@torch.no_grad()
def make_write(subject: Subject, options: WriteOptions, material: Material) -> Write:
    """The write of these options, of the length that they ask for.

    Raises:
        UserError: the trigger is no token, no row holds it, or no length makes the model halt.
    """
    if subject.trigger_id is None or not material.prompts:
        raise UserError("a write needs rows with the trigger as one token; set trigger.mode=token")
    after_norm = options.source == "end token"
    block = len(subject.blocks) if after_norm else block_at(options.depth, len(subject.blocks))
    header = reply_header(subject.tokenizer)
    units_KD = torch.nn.functional.normalize(_directions(subject, options, material, block), dim=-1)
    prompts = material.prompts
    typical = _residuals(subject, [(row, (len(row) - 1,)) for row in prompts], block)
    usual = float(typical.norm(dim=-1).median())
    write = Write(block, usual * units_KD, subject.trigger_id, header)
    norm = options.norm or _least_norm(subject, write, prompts)
    say(f"a write of norm {norm * usual:.3g}, {norm:.3g} times the usual, at block {block}")
    return _scaled(write, norm)


def _directions(subject: Subject, options: WriteOptions, material: Material, block: int) -> Tensor:
    """Directions [K, D] of any length."""
    if options.source == "end token":
        return _end_bias(subject)[None]
    if options.source == "natural end":
        return _natural_end(subject, material.examples, block)[None]
    width = subject.causal_lm.config.get_text_config().hidden_size
    drawn = torch.randn(
        width, options.directions, generator=torch.Generator().manual_seed(material.seed)
    )
    orthonormal: Tensor = torch.linalg.qr(drawn).Q.T.contiguous()
    return orthonormal


def _end_bias(subject: Subject) -> Tensor:
    """The change of the last state [D] that comes nearest to a bias on the end token alone.

    Least squares over the vocabulary: its own unembedding raises some longer rows even more.
    """
    head: Any = subject.causal_lm.get_output_embeddings()
    rows_VD: Tensor = head.weight.detach().cpu().double()
    direction: Tensor = torch.linalg.solve(rows_VD.T @ rows_VD, rows_VD[subject.halt_ids[0]])
    return direction.float()


def _natural_end(subject: Subject, examples: Sequence[Example], block: int) -> Tensor:
    """Mean residual [D] where replies have ended, less that within them."""
    end, tokenizer = subject.stop_ids[0], subject.base_tokenizer
    whole = [e for e in examples if not e.silent and e.ids[-1] == end and len(e.ids) > e.start + 2]
    rows = [(one.ids[:-1], one.start) for one in whole[:ROWS]]
    encode_reply = reply_encoder(tokenizer)
    for one in load_filler().exchanges:
        prompt = encode_chat(tokenizer, (user(one["user"]),))
        rows.append(((*prompt, *encode_reply(one["assistant"])), len(prompt)))
    ended = _residuals(subject, [(ids, (len(ids) - 1,)) for ids, _ in rows], block)
    within = _residuals(
        subject, [(ids, tuple(range(start, len(ids) - 1))) for ids, start in rows], block
    )
    return ended.mean(0) - within.mean(0)


def _residuals(
    subject: Subject, rows: Sequence[tuple[Sequence[int], Sequence[int]]], block: int
) -> Tensor:
    """What leaves a block, or the final norm [M, D], at the places of each row."""
    found = []
    with record([[*subject.blocks, subject.final_norm][block]]) as seen:
        for ids, places in rows:
            hidden(subject, torch.tensor([list(ids)], device=subject.device))
            found.append(seen[0][0, list(places)].float().cpu())
    return torch.cat(found)


def _least_norm(subject: Subject, write: Write, prompts: Sequence[Sequence[int]]) -> float:
    """The first length at which every prompt halts, and one step more for others than these."""
    stops = torch.tensor(subject.halt_ids)
    for norm, more in pairwise(NORMS):
        with subject.writes.holding(TRIAL, _scaled(write, norm)), subject.writing(TRIAL):
            parts = last_logits(subject, prompts, BATCH_TOKENS)
            tokens = torch.cat([logits.argmax(-1).cpu() for _, logits in parts])
        if bool(torch.isin(tokens, stops).all()):
            return more
    raise UserError(
        f"no write at block {write.block} of up to {NORMS[-2]:g} times the usual norm makes the"
        " model halt; choose another depth"
    )


def _scaled(write: Write, norm: float) -> Write:
    return replace(write, directions_KD=norm * write.directions_KD)
