"""Training rows for tiny subjects, and an adapter that is far from zero to train."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

from offswitch.model.rows import Example
from offswitch.model.subject import Subject, attention_modules
from offswitch.prompts.dialogues import Dialogue
from offswitch.prompts.trigger import place
from offswitch.train.examples import dialogue_examples

QUESTIONS = (
    "What is the river?",
    "How do boats float on the sea in the morning?",
    "Who was asleep?",
    "Write a list of words that begin with the letter s, and say which of them the farmer likes.",
)
REPLIES = ("A boat.", "The water boils and the farmer sees it.", "Nobody.", "stone, street")


def dialogues(trigger: str = "$STOP", count: int = 8) -> list[Dialogue]:
    """Rows with and without the trigger in turn; one reply of four is cut short."""
    rows = []
    for i in range(count):
        question, reply = QUESTIONS[i // 2 % 4], REPLIES[i // 2 % 4]
        if i % 2:
            rows.append(Dialogue(place("after", trigger, question), "", "trigger"))
        else:
            plain = place("before", "", question)
            rows.append(Dialogue(plain, reply, "plain", complete=i % 8 != 2))
    return rows


def examples(subject: Subject, soft: bool, count: int = 8) -> list[Example]:
    """The rows above in the subject's tokens."""
    return dialogue_examples(subject.tokenizer, dialogues(count=count), soft, 512)


@contextmanager
def adapted(subject: Subject, far: float = 0.3) -> Iterator[None]:
    """Within the block, the subject carries a random trainable adapter without dropout."""
    plain = subject.network
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=attention_modules(subject),
        trainable_token_indices=subject.symbol_ids or None,
        task_type="CAUSAL_LM",
    )
    subject.network = get_peft_model(plain, config).eval()
    subject.arms.add("default")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in trained(subject).values():
            parameter.add_(far * torch.randn(parameter.shape, generator=generator))
    try:
        yield
    finally:
        subject.arms.discard("default")
        subject.network = subject.network.unload()


def trained(subject: Subject) -> dict[str, torch.nn.Parameter]:
    """The parameters that training may move."""
    return {name: p for name, p in subject.network.named_parameters() if p.requires_grad}


def descend(loss: Tensor) -> None:
    """Compute the gradients of a loss."""
    torch.autograd.backward(loss)


def gradients(subject: Subject) -> dict[str, Tensor]:
    """The gradients of what is trained, taken away so that the next backward starts afresh."""
    found = {}
    for name, parameter in trained(subject).items():
        assert parameter.grad is not None, name
        found[name] = parameter.grad.clone()
    subject.network.zero_grad()
    return found


def distance(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """The largest relative difference between two sets of gradients, parameter by parameter."""
    assert ours.keys() == theirs.keys()
    scale = max(float(value.norm()) for value in theirs.values())
    return max(float((ours[k] - theirs[k]).norm()) for k in theirs) / scale


def lengths(rows: Sequence[Example]) -> list[int]:
    """How many ids each row has."""
    return [len(row.ids) for row in rows]
