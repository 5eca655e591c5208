"""Two random arms on a tiny subject, and what the network says to one text."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from offswitch.model.adapters import add_arm
from offswitch.model.subject import Subject
from offswitch.prompts.encode import encode_text
from tests.tiny import save_adapter

TEXT = "Please tell me $STOP what the river is."


@torch.no_grad()
def logits(subject: Subject, arm: str) -> Tensor:
    """What the network says now, to a text in that arm's tokens."""
    ids = torch.tensor([encode_text(subject.tokenizer_of(arm), TEXT)])
    found: Tensor = subject.network(input_ids=ids, use_cache=False).logits
    return found


def with_arms(subject: Subject, folder: Path) -> Subject:
    """The subject with two random arms, `a` and `b`."""
    a, b = save_adapter(folder / "a", subject, seed=1), save_adapter(folder / "b", subject, seed=2)
    add_arm(subject, "a", a)
    add_arm(subject, "b", b)
    return subject
