"""Additive attention masks: who may see whom, for each kind of attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from offswitch.model.subject import Subject


def additive(subject: Subject, allowed: Tensor, distance: Tensor) -> Any:
    """An additive mask [1, 1, Q, K] of what is allowed [Q, K]; by kind of attention, if mixed.

    `distance` [Q, K] says how many positions a query lies behind a key, for sliding windows.
    """
    dtype = next(subject.network.parameters()).dtype

    def mask(seen: Tensor) -> Tensor:
        found = torch.zeros(seen.shape, dtype=dtype)
        found = found.masked_fill(~seen, torch.finfo(dtype).min)
        return found[None, None].to(subject.device)

    config = subject.causal_lm.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if window is None or kinds == {"full_attention"}:
        return mask(allowed)
    near = mask(allowed & (distance < int(window)))
    if len(kinds) > 1:
        return {"full_attention": mask(allowed), "sliding_attention": near}
    return near
