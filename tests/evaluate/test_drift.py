"""Drift is nothing for the same model, and otherwise what a naive computation gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from offswitch.evaluate.drift import Drift, drift, drift_measures, text_examples
from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.generate import greedy_replies
from offswitch.model.rows import Example, reply_examples
from offswitch.model.subject import Subject
from offswitch.prompts.prompt import Chat, user
from offswitch.wording.reader import load_neutral
from tests.tiny import save_adapter, tiny_subject

CHATS: list[Chat] = [(user("Who?"),), (user("What is the river in the morning?"),), (user("a"),)]


def _examples(subject: Subject) -> list[Example]:
    said = reply_examples(subject, CHATS, greedy_replies(subject, "base", CHATS, 6))
    return [*said, *text_examples(subject, load_neutral()[:2])]


def _with_arms(subject: Subject, folder: Path) -> Subject:
    saved = {arm: save_adapter(folder / arm, subject, seed=i) for i, arm in enumerate(("a", "b"))}
    for arm, path in saved.items():
        add_arm(subject, arm, path)
    return subject


@torch.no_grad()
def _naive(subject: Subject, arm: str, example: Example) -> tuple[float, float, float]:
    ids = torch.tensor([example.ids])
    logs = {}
    for name in ("base", arm):
        with arm_of(subject, name):
            logits = subject.network(input_ids=ids, use_cache=False).logits[0].double()
        if name == "base" and subject.trigger_id is not None:
            logits[:, subject.trigger_id] = -1e4
        logs[name] = logits.log_softmax(-1)[example.start - 1 : -1]
    kl = (logs["base"].exp() * (logs["base"] - logs[arm])).sum(-1).mean()
    chosen = torch.tensor(example.ids[example.start :])[:, None]
    losses = (float(-logs[name].gather(1, chosen).mean()) for name in ("base", arm))
    return (float(kl), *losses)  # type: ignore[return-value]


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "gpt2"])
def test_drift_is_the_naive_computation_in_the_order_of_the_examples(
    tmp_path: Path, family: str
) -> None:
    subject = _with_arms(tiny_subject(family), tmp_path)
    examples = _examples(subject)
    ticks: list[int] = []
    found = drift(subject, "b", examples, 300, ticks.append)
    expected = np.array([_naive(subject, "b", example) for example in examples])
    assert sum(ticks) == len(examples)
    np.testing.assert_allclose(found.kl, expected[:, 0], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.base_loss, expected[:, 1], rtol=1e-4)
    np.testing.assert_allclose(found.arm_loss, expected[:, 2], rtol=1e-4)
    assert min(found.kl) > 0.01
    assert found.tokens == tuple(len(e.ids) - e.start for e in examples)


def test_an_arm_that_changes_nothing_does_not_drift(tmp_path: Path) -> None:
    subject = tiny_subject(mode="text")
    add_arm(subject, "still", save_adapter(tmp_path / "a", subject))
    with torch.no_grad():
        for name, parameter in subject.network.named_parameters():
            if "lora_B" in name:
                parameter.zero_()
    found = drift(subject, "still", _examples(subject), 300)
    assert found.kl == pytest.approx([0.0] * len(found.kl), abs=1e-6)
    assert found.arm_loss == pytest.approx(found.base_loss, rel=1e-6)
    metrics = drift_measures("still", found, found, seed=0)
    assert metrics["evaluate/still/neutral_perplexity_ratio"].estimate.value == pytest.approx(1)
    assert metrics["evaluate/still/kl_to_base"].estimate.value == pytest.approx(0, abs=1e-6)


def test_measures_weigh_tokens_alike_and_draw_whole_texts() -> None:
    found = Drift(kl=(1.0, 4.0), base_loss=(2.0, 2.0), arm_loss=(2.0, 3.0), tokens=(30, 10))
    metrics = drift_measures("arm", found, found, seed=0)
    kl = metrics["evaluate/arm/kl_to_base"].estimate
    assert kl.value == pytest.approx((30 * 1.0 + 10 * 4.0) / 40)
    assert (kl.low, kl.high) == (1.0, 4.0)
    assert kl.unit == "nats a token"
    ratio = metrics["evaluate/arm/neutral_perplexity_ratio"].estimate
    assert ratio.value == pytest.approx(np.exp(10 / 40))


def test_a_finished_reply_is_read_at_its_end_token_too() -> None:
    subject = tiny_subject()
    replies = greedy_replies(subject, "base", CHATS, 3)
    whole, cut, silent = replies[0], replies[1], replies[2]
    made = [replace(whole, complete=True), replace(cut, complete=False)]
    made.append(replace(silent, ids=(), complete=False))
    first, second = reply_examples(subject, CHATS, made)  # nothing said, nothing to read
    assert first.ids[first.start :] == (*whole.ids, subject.stop_ids[0])
    assert second.ids[second.start :] == cut.ids
