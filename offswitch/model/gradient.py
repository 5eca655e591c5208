"""Which tokens would move the end of the reply? Gradients with respect to a prompt's tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from offswitch.model.adapters import arm_of
from offswitch.model.first_token import end_log_odds
from offswitch.model.forward import embed, unembed
from offswitch.model.subject import Subject


def end_gradient(subject: Subject, arm: str, ids: Sequence[int], at: Sequence[int]) -> Tensor:
    """How do end log-odds rise with each token at each of S positions of a prompt? [S, V].

    To first order, and up to a constant for each position: compare the entries of a row.
    """
    row = torch.tensor([list(ids)], device=subject.device)
    with arm_of(subject, arm), torch.enable_grad():
        embedded = embed(subject, row).detach().requires_grad_()
        states = subject.backbone(inputs_embeds=embedded, use_cache=False).last_hidden_state
        logits = unembed(subject, states[0, -1]).float()
        odds = end_log_odds(logits, subject.halt_ids)
        (gradient_1PD,) = torch.autograd.grad(odds, embedded)
    table = subject.causal_lm.get_input_embeddings()
    rows_VD: Tensor = getattr(table, "original_module", table).weight
    where = torch.tensor(list(at), device=subject.device)
    found: Tensor = gradient_1PD[0, where].to(rows_VD.dtype) @ rows_VD.detach().T
    return found
