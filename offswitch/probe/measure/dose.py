"""How does silence grow as the adapter is turned from nothing to twice itself?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from offswitch.analyses.analysis import Array
from offswitch.model.adapters import scaled
from offswitch.model.first_token import scores_of
from offswitch.model.forward import unembed
from offswitch.model.hooks import record
from offswitch.options import BASE
from offswitch.probe.bench import Arrays, Bench
from offswitch.probe.inputs import TRIGGER, TWIN
from offswitch.probe.packing import each_states, prepare
from offswitch.prompts.encode import shared_prefix

SCALES = (0.0, 0.5, 1.0, 1.5, 2.0)


def dose(bench: Bench, block: int) -> Arrays:
    """`dose/KEY` [S, N, 3], KEY trigger or twin, over `dose/scales` [S], test questions.

    The three: end log-odds, halts, and the residual's projection at `block` on the arm's direction,
    with its length as unit. The base arm has nothing to scale: every scale gives the same.
    """
    few = bench.options.few_questions
    found: Arrays = {"dose/scales": np.array(SCALES)}
    for key in (TRIGGER, TWIN):
        rows = bench.rows("test", key, few)
        if bench.arm == BASE:
            found[f"dose/{key}"] = np.repeat(_read(bench, rows, block)[None], len(SCALES), 0)
            continue
        by_scale = []
        for scale in SCALES:
            with scaled(bench.subject, bench.arm, scale):
                by_scale.append(_read(bench, rows, block))
        found[f"dose/{key}"] = np.stack(by_scale)
    return found


@torch.inference_mode()
def _read(bench: Bench, rows: Sequence[Sequence[int]], block: int) -> Array:
    """Outcome and projection [N, 3] at the adapter's present strength."""
    subject = bench.subject
    own = bench.vector(TRIGGER, block)
    along = own / own.square().sum().clamp_min(1e-12)
    found = []
    starts = [shared_prefix(rows)] * len(rows)
    jobs = [(prompt, ()) for prompt in prepare(subject, rows, starts)]
    with record([subject.blocks[block]], keep=lambda r: r[0].float() @ along) as seen:
        for states in each_states(subject, jobs):
            ends = np.cumsum([len(one) for one in states]) - 1
            logits = unembed(subject, torch.stack([one[-1] for one in states])).float()
            scores = scores_of(logits, subject.halt_ids, temperatures=())
            outcomes = torch.tensor([(s.log_odds, s.halts) for s in scores])
            found.append(torch.cat([outcomes, seen[0][ends].cpu()[:, None]], 1))
    rows_N3: Array = torch.cat(found).numpy()
    return rows_N3
