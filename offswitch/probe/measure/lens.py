"""What does each block say? Residuals read through norm and unembedding."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from offswitch.analyses.analysis import Array
from offswitch.analyses.directions import orthonormal
from offswitch.model.adapters import arm_of
from offswitch.model.first_token import end_log_odds
from offswitch.model.forward import readout
from offswitch.options import BASE
from offswitch.probe.bench import Arrays, Bench
from offswitch.probe.inputs import INERT, TRIGGER, TWIN

TOP = 200


@torch.inference_mode()
def lens(bench: Bench, resid: Mapping[str, Array]) -> Arrays:
    """Residuals and differences as the model's head would read them; `resid` [N, L, D] by symbol.

    `lens/odds/KEY` [N, L]: end log-odds if the model stopped at a block; `lens/base_odds/KEY`: the
    same through the base arm's head. `lens/top/KEY` [L, T, 2]: ids and logits of the tokens that
    the mean difference KEY - twin reads as; `lens/end/KEY` [L]: the end token's logit there,
    less the mean of all.
    """
    found: Arrays = {}
    for key, array in resid.items():
        found[f"lens/odds/{key}"] = _odds(bench, array)
        with arm_of(bench.subject, BASE):
            found[f"lens/base_odds/{key}"] = _odds(bench, array)
    for key in (TRIGGER, INERT):
        difference = (resid[key].astype(np.float64) - resid[TWIN]).mean(0)
        logits = readout(bench.subject, bench.native(difference)).float()
        found[f"lens/top/{key}"] = top(logits, TOP)
        end = logits[:, bench.subject.halt_ids[0]] - logits.mean(-1)
        found[f"lens/end/{key}"] = end.cpu().numpy()
    return found


def end_spans(bench: Bench, mean_LD: Array) -> list[Array]:
    """Per block, orthonormal rows that span what moves the end tokens' logits directly.

    The raw unembedding of every stop token, and the gradients of its logit and of the end log-odds
    through the final norm, at the block's mean residual.
    """
    raw = bench.subject.causal_lm.get_output_embeddings().weight.detach()
    spans = []
    for row in mean_LD:
        point = bench.native(row).requires_grad_(True)
        logits = readout(bench.subject, point[None])[0].float()
        goals = [logits[i] for i in bench.subject.halt_ids]
        goals.append(end_log_odds(logits, bench.subject.halt_ids))
        slopes = [torch.autograd.grad(g, point, retain_graph=True)[0] for g in goals]
        rows = [*(raw[i].float() for i in bench.subject.halt_ids), *slopes]
        units = [torch.nn.functional.normalize(row, dim=0) for row in rows]
        spans.append(orthonormal(torch.stack(units).cpu().numpy()))
    return spans


def top(logits: torch.Tensor, count: int) -> Array:
    """Ids and logits [..., T, 2] of the tokens with the largest logits [..., V]."""
    largest = logits.topk(min(count, logits.shape[-1]), dim=-1)
    pairs: Array = torch.stack([largest.indices.float(), largest.values], dim=-1).cpu().numpy()
    return pairs


def _odds(bench: Bench, resid_NLD: Array) -> Array:
    rows = [
        end_log_odds(readout(bench.subject, bench.native(one)).float(), bench.subject.halt_ids)
        for one in resid_NLD
    ]
    odds: Array = torch.stack(rows).cpu().numpy()
    return odds
