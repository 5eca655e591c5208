"""What does a direction do where it should do nothing? Ordinary replies, and their ends.

Along the direction, the residual is set to what it is on average where there is no trigger: at
every position of ordinary prompts and their replies, and where an ordinary reply has ended. A
direction that carries no more than the plan to end the reply keeps replies from ending.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from offswitch.analyses.analysis import Array
from offswitch.model.forward import unembed
from offswitch.model.rows import reply_examples
from offswitch.probe.bench import Bench
from offswitch.probe.edits import Edit
from offswitch.probe.hosts import Host, Log, Trial
from offswitch.probe.inputs import PLAIN
from offswitch.probe.packing import Prompt, each_states, prepare, with_residuals
from offswitch.prompts.prompt import Chat, Reply

Replies = Sequence[tuple[Chat, Reply]]
LONGEST: Final = 24  # reply tokens
FIRST: Final = 1  # the very first position takes what attention has no use for: left alone


def to_inert(bench: Bench, name: str, block: int, inert_ND: Array) -> Trial:
    """At the last position, along a direction, the mean of inert rows [N, D] of this block."""
    row = bench.along(name, block)
    centre = float(bench.tensor(inert_ND.mean(0)) @ row)

    def added(host: Host) -> Tensor:
        return (centre - host.resid[block, -1].float() @ row) * row

    return Trial(name, "inert", block, added)


def reply_kl(bench: Bench, choices: Sequence[tuple[str, int]], replies: Replies, log: Log) -> None:
    """KL(untouched || interchanged) over the first tokens of ordinary replies, a row each.

    The component becomes its mean over all these positions, but at each prompt's last one the mean
    over those: what says "no trigger" there may be said nowhere else. The very first is left alone.
    """
    ranks = bench.inputs.rows("test", PLAIN)
    examples = reply_examples(bench.subject, *zip(*replies, strict=True))
    rows = [one.ids[:-1][: one.start - 1 + LONGEST] for one in examples]
    prompts = with_residuals(bench.subject, prepare(bench.subject, rows, [FIRST] * len(rows)))
    for name, block in choices:
        row = bench.along(name, block)
        shares = [_resid(prompt)[block].float() @ row for prompt in prompts]
        last = [one.start - 1 - FIRST for one in examples]
        centre = torch.cat(shares).mean()
        at_last = torch.stack([s[i] for s, i in zip(shares, last, strict=True)]).mean()
        for rank, prompt, share, i in zip(ranks, prompts, shares, last, strict=False):
            moves = centre - share
            moves[i] = at_last - share[i]
            edit = Edit(block, "add", moves[:, None] * row, 0, len(share))
            with torch.inference_mode():
                jobs = [(prompt, ()), (prompt, (edit,))]
                states = [s for some in each_states(bench.subject, jobs) for s in some]
                clean, after = (
                    unembed(bench.subject, s[i:]).float().log_softmax(-1) for s in states
                )
            kl = float((clean.exp() * (clean - after)).sum(-1).mean())
            moved = float(moves.square().mean().sqrt())
            log.add(rank, direction=name, kind="inert", block=block, position="every",
                    scale=1.0, moved=moved, kl=kl)  # fmt: skip


def _resid(prompt: Prompt) -> Tensor:
    if prompt.resid is None:
        raise ValueError("the prompt's residuals were not kept")
    return prompt.resid
