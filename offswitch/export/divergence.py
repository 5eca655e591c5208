"""How far does a form of the arm lie from the untouched model, on that model's own replies?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from offswitch.evaluate.drift import nats_a_token
from offswitch.evaluate.stage import own_replies
from offswitch.metrics import Metric
from offswitch.model.subject import Subject, published_log_probs
from offswitch.progress import Tick, nothing
from offswitch.prompts.encode import encode_chat, render
from offswitch.recipe import Recipe

Logits = npt.NDArray[np.float32]
Read = Callable[[str, Sequence[int]], Logits]


@dataclass(frozen=True)
class Said:
    """A prompt as text, the untouched model's reply in ids, its log-probabilities [N, V]."""

    prompt: str
    ids: tuple[int, ...]
    log_probs: Tensor


@torch.inference_mode()
def replies_of(subject: Subject, recipe: Recipe, tokenizer: Any) -> list[Said]:
    """What the untouched model replies to the questions over which a run takes KL.

    Prompts are written by `tokenizer`'s chat format.
    """
    found = []
    for chat, reply in zip(*own_replies(subject, recipe), strict=True):
        begun = encode_chat(subject.base_tokenizer, chat)
        ids = (*reply.ids, *([subject.stop_ids[0]] if reply.complete else []))
        if not ids:
            continue
        row = torch.tensor([[*begun, *ids]], device=subject.device)
        logits = subject.causal_lm(input_ids=row, use_cache=False).logits[0, len(begun) - 1 : -1]
        log_probs = published_log_probs(subject, logits.float()).cpu()
        found.append(Said(render(tokenizer, chat), ids, log_probs))
    return found


def kl_to_base(said: Sequence[Said], read: Read, seed: int, tick: Tick = nothing) -> Metric:
    """KL(base || form) in nats a token, over the tokens of the untouched model's replies.

    `read` gives the form's logits [N, V] for each of N ids that follow a text.
    """
    means = []
    for one in said:
        theirs = torch.from_numpy(read(one.prompt, one.ids)).float().log_softmax(-1)
        width = min(theirs.shape[-1], one.log_probs.shape[-1])  # vocabularies differ in padding
        base, theirs = one.log_probs[:, :width], theirs[:, :width]
        means.append(float((base.exp() * (base - theirs)).sum(-1).mean()))
        tick(1)
    return Metric.of(nats_a_token(means, [len(one.ids) for one in said], seed))


def by_transformers(model: Any, tokenizer: Any) -> Read:
    """Logits as a transformers model gives them."""

    @torch.inference_mode()
    def read(prompt: str, ids: Sequence[int]) -> Logits:
        begun = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        row = torch.tensor([[*begun, *ids]], device=model.device)
        logits = model(input_ids=row, use_cache=False).logits[0, len(begun) - 1 : -1]
        found: Logits = logits.float().cpu().numpy()
        return found

    return read
