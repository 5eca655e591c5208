"""What the model would have said if, at one block, its residual had been another.

Many counterfactuals (each a *branch* of a prompt) are computed in one pass; packing.py says how. A
branch equals a plain forward pass with a hook, at the price of its own positions only and of the
blocks from the first edit on. Shapes: B branch, K positions of a branch, D d_model, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Final

import numpy as np
import torch
from torch import Tensor

from offswitch.analyses.analysis import Array
from offswitch.errors import UserError
from offswitch.model.first_token import scores_of
from offswitch.model.forward import as_refusal, unembed
from offswitch.model.subject import Subject, attention_outputs
from offswitch.probe.edits import Branch, Edit
from offswitch.probe.packing import Job, Prompt, each_states, first_block, prepare, with_residuals
from offswitch.prompts.encode import encode_chat
from offswitch.prompts.prompt import user

# The rounding of bf16 alone moved the logits of Qwen2.5-1.5B's shape by 2 to 5 % on an H200.
TOLERANCE: Final = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 6e-2}


def outcomes(subject: Subject, prompts: Sequence[Prompt], branches: Sequence[Branch]) -> Array:
    """Outcomes [B, N, 2] of every branch of every prompt: end log-odds, and halts (0 or 1)."""
    found = job_outcomes(subject, [(p, b) for p, b in product(prompts, branches)])
    by_prompt: Array = found.reshape(len(prompts), len(branches), 2).swapaxes(0, 1)
    return by_prompt


def job_outcomes(subject: Subject, jobs: Sequence[Job], ids: Sequence[int] = ()) -> Array:
    """First-token outcomes [jobs, 2]: log-odds of halting, and whether the branch halts (0 or 1).

    `ids` are the tokens that count; without them, those with which a halting reply begins.
    """
    rows: Array = np.empty((len(jobs), 2), dtype=np.float32)
    # Jobs whose first edits lie at like blocks share a pass, which then begins there.
    order = sorted(range(len(jobs)), key=lambda i: first_block(subject, jobs[i]))
    done = 0
    for logits in each_logits(subject, [jobs[i] for i in order]):
        scores = scores_of(logits, ids or subject.halt_ids, temperatures=())
        some = [(found.log_odds, found.halts) for found in scores]
        rows[order[done : done + len(some)]] = some
        done += len(some)
    return rows


def each_logits(subject: Subject, jobs: Sequence[Job]) -> Iterator[Tensor]:
    """Logits [b, V], float32, after the last position of some jobs at a time, in their order."""
    with torch.inference_mode():
        for states in each_states(subject, jobs):
            last = torch.stack([rows_KD[-1] for rows_KD in states])
            yield unembed(subject, last).float()


def require_probes(subject: Subject) -> None:
    """Can the battery read and change this model, as far as one short prompt says?

    Raises:
        UserError: it cannot.
    """
    check_packing(subject, encode_chat(subject.base_tokenizer, (user("Is it 7?"),)))
    attention_outputs(subject)


def check_packing(subject: Subject, ids: Sequence[int]) -> None:
    """Does an unedited branch say what a plain forward pass says?

    Raises:
        UserError: it does not, so no intervention on this model can be trusted.
    """
    ids = (list(ids) * (1 + subject.check_past))[: len(ids) + subject.check_past]
    rows = [ids, ids[::-1]]
    jobs: list[Job] = []
    plain: list[Tensor] = []
    with torch.inference_mode(), as_refusal(subject, "packed pass"):
        for row in rows:
            states = subject.backbone(input_ids=torch.tensor([row], device=subject.device))
            last = states.last_hidden_state[0, -1]
            nothing: Branch = (Edit(len(subject.blocks) // 2, "add", torch.zeros_like(last)),)
            for start in sorted({0, len(row) // 2, len(row) - 1}):
                jobs += product(prepare(subject, [row], [start]), [(), nothing])
            plain += [unembed(subject, last).float()] * (len(jobs) - len(plain))
        resumed = [(with_residuals(subject, [p])[0], b) for p, b in jobs]
        worst = 0.0
        for some in (jobs, resumed):
            packed = torch.cat(list(each_logits(subject, some)))
            off = (packed - torch.stack(plain)).norm(dim=-1) / torch.stack(plain).norm(dim=-1)
            worst = max(worst, float(off.nan_to_num(nan=torch.inf).max()))
    if not worst <= TOLERANCE[next(subject.network.parameters()).dtype]:
        raise UserError(
            f"{subject.name}: a packed pass differs from a plain one ({worst:.1e}); interventions"
            " on this architecture are not supported"
        )
