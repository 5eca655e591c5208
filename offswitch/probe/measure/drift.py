"""What did training leave in the residual stream of neutral text?

After Minder et al. (2025): the mean activation difference between arm and base where no trigger is,
over the first five positions and over later ones, read through the logit lens and by patchscope
(the difference put into a prompt that makes the model repeat what it is given).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from offswitch.analyses.analysis import Array
from offswitch.model.adapters import arm_of
from offswitch.model.forward import hidden, readout
from offswitch.model.hooks import record
from offswitch.model.subject import Subject
from offswitch.options import BASE
from offswitch.probe.bench import Arrays, Bench
from offswitch.probe.edits import Edit
from offswitch.probe.intervene import each_logits
from offswitch.probe.measure.lens import top
from offswitch.probe.packing import at_last
from offswitch.prompts.encode import encode_alone, pad
from offswitch.wording.reader import load_neutral

EARLY = 5
LENGTH = 40
TOP = 20
IDENTITY = "man -> man\n1135 -> 1135\nhello -> hello\n?"


def drift(bench: Bench) -> Arrays:
    """Mean residuals of neutral passages: over their first five positions, and over later ones.

    `drift/base` and `drift/arm` [N, L, 2, D]; the very first position, whose norm is the attention
    sink's, is left out.
    `drift/norm` [N, L, 2] and `drift/size` [N, L, 2]: mean over positions of ||arm - base|| and of
    ||base||. `drift/lens` and `drift/patchscope` [2, T, 2]: ids and logits that the mean difference
    reads as, at the middle block.
    """
    subject, texts = bench.subject, load_neutral()[: bench.options.drift_passages]
    rows = [encode_alone(subject.base_tokenizer, text)[:LENGTH] for text in texts]
    base, ours = (_read(subject, arm, rows) for arm in (BASE, bench.arm))
    parts = (slice(1, EARLY), slice(EARLY, None))
    before, after = _by_part(base, parts), _by_part(ours, parts)
    moved = [np.linalg.norm(b - a, axis=-1) for a, b in zip(base, ours, strict=True)]
    size = [np.linalg.norm(a, axis=-1) for a in base]
    middle = len(subject.blocks) // 2
    delta_2D = (after - before).mean(0)[middle]
    usual = float(np.mean([one[EARLY:, middle].mean() for one in size]))
    with torch.inference_mode():
        lens = top(readout(subject, bench.native(delta_2D)).float(), TOP)
    return {
        "drift/base": before, "drift/arm": after,
        "drift/norm": _by_part(moved, parts), "drift/size": _by_part(size, parts),
        "drift/lens": lens, "drift/patchscope": _patchscope(bench, delta_2D, usual),
    }  # fmt: skip


@torch.inference_mode()
def _read(subject: Subject, arm: str, rows: Sequence[Sequence[int]]) -> list[Array]:
    """Residuals [P, L, D] of each passage, the same ids for every arm."""
    with arm_of(subject, arm), record(subject.blocks) as seen:
        hidden(subject, torch.tensor(pad(rows), device=subject.device))
    resid = torch.stack([seen[i] for i in range(len(seen))], 2).float().cpu().numpy()
    return [resid[i, : len(row)] for i, row in enumerate(rows)]


def _by_part(values: Sequence[Array], parts: Sequence[slice]) -> Array:
    """Means over the positions of each part [N, L, 2, ...] of values [P, L, ...]."""
    return np.stack([np.stack([one[p].mean(0) for p in parts], 1) for one in values])


def _patchscope(bench: Bench, delta_2D: Array, length: float) -> Array:
    """The last position of an identity prompt, at the middle block, becomes the difference.

    It is set to `length`, that of a residual there on neutral text.
    """
    subject, block = bench.subject, len(bench.subject.blocks) // 2
    ids = encode_alone(subject.base_tokenizer, IDENTITY)
    branches = []
    for delta in delta_2D:
        scaled = delta * (length / max(float(np.linalg.norm(delta)), 1e-12))
        value = torch.tensor(scaled, dtype=torch.float32, device=subject.device)
        branches.append((Edit(block, "set", value[None], first=-1),))
    with arm_of(subject, BASE):
        (prompt,) = at_last(subject, [ids])
        return top(torch.cat(list(each_logits(subject, [(prompt, b) for b in branches]))), TOP)
