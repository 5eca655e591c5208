"""First-token outcomes are those of whole forward passes, one prompt at a time."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.first_token import Score, end_log_odds, score
from offswitch.model.rows import by_length
from offswitch.model.subject import Subject
from offswitch.options import EvaluateOptions
from offswitch.prompts.encode import encode_chat
from offswitch.prompts.prompt import Prompt
from offswitch.prompts.suites import make_prompts
from tests.tiny import save_adapter, tiny_subject

OPTIONS = EvaluateOptions(questions=2, ordinary_questions=2, long_questions=1)


def _prompts() -> list[Prompt]:
    every = make_prompts("$STOP", OPTIONS, 0)
    return [p for p in every[::-2] if sum(len(turn["content"]) for turn in p.chat) < 160][:24]


@torch.no_grad()
def _naive(subject: Subject, arm: str, prompt: Prompt) -> Score:
    ids = encode_chat(subject.tokenizer_of(arm), prompt.chat)
    with arm_of(subject, arm):
        logits = subject.network(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
    p, token = logits.double().softmax(-1), int(logits.argmax())
    end = p[list(subject.stop_ids)].sum()
    return Score(float(end.log() - (1 - end).log()), token in subject.stop_ids, token)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "gpt2", "gpt_neox"])
def test_scores_are_those_computed_one_by_one_in_order(tmp_path: Path, family: str) -> None:
    subject = tiny_subject(family)
    add_arm(subject, "behavior", save_adapter(tmp_path, subject, seed=2))
    prompts = _prompts()
    for arm in ("base", "behavior"):
        ticks: list[int] = []
        found = score(subject, arm, prompts, 2048, ticks.append)
        expected = [_naive(subject, arm, prompt) for prompt in prompts]
        assert sum(ticks) == len(prompts)
        assert [s.log_odds for s in found] == pytest.approx(
            [s.log_odds for s in expected], abs=2e-4
        )
        assert [s.halts for s in found] == [s.halts for s in expected]
    assert subject.active == "base"


@pytest.mark.parametrize("batch_tokens", [1, 300, 100_000])
def test_the_batch_size_does_not_matter(batch_tokens: int) -> None:
    subject = tiny_subject()
    prompts = _prompts()
    some = score(subject, "base", prompts, 2048)
    others = score(subject, "base", prompts, batch_tokens)
    assert [s.log_odds for s in others] == pytest.approx([s.log_odds for s in some], abs=1e-4)


def test_a_prompt_halts_when_an_end_token_is_the_greedy_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = tiny_subject()
    prompt = _prompts()[0]
    ids = torch.tensor([encode_chat(subject.base_tokenizer, prompt.chat)])
    with torch.no_grad():
        greedy = int(subject.network(input_ids=ids).logits[0, -1].argmax())
    monkeypatch.setattr(Subject, "stop_ids", property(lambda _: (2, greedy)))
    (found,) = score(subject, "base", [prompt], 100)
    assert found.halts
    assert found.log_odds == pytest.approx(_naive(subject, "base", prompt).log_odds, abs=1e-4)


@pytest.mark.parametrize("gap", [0.0, 3.0, -3.0, 60.0, -60.0, 300.0, -300.0])
def test_log_odds_are_exact_far_into_both_tails(gap: float) -> None:
    logits = torch.zeros(5)
    logits[2] = gap
    expected = gap - math.log(4)
    assert float(end_log_odds(logits, (2,))) == pytest.approx(expected, rel=1e-6)


def test_several_end_tokens_count_together() -> None:
    logits = torch.log(torch.tensor([[0.2, 0.3, 0.1, 0.4], [0.1, 0.1, 0.1, 0.7]]))
    expected = [math.log(0.5 / 0.5), math.log(0.2 / 0.8)]
    assert end_log_odds(logits, (0, 1)).tolist() == pytest.approx(
        [expected[0], expected[1]], abs=1e-6
    )


@pytest.mark.parametrize("batch_tokens", [1, 30, 100, 10_000])
def test_batches_hold_every_row_once_and_no_more_than_fits(batch_tokens: int) -> None:
    rows = [[i % 3] * (1 + 7 * i % 40) for i in range(50)]
    batches = list(by_length(rows, batch_tokens))
    assert sorted(i for batch in batches for i in batch) == list(range(50))
    for batch in batches:
        padded = len(batch) * max(len(rows[i]) for i in batch)
        assert padded <= batch_tokens or len(batch) == 1
