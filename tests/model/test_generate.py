"""Replies in batches are replies one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from offswitch.model import generate
from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.generate import greedy_replies, growing_reply
from offswitch.model.hooks import edit
from offswitch.model.load import make_subject
from offswitch.model.subject import Subject
from offswitch.options import TriggerOptions
from offswitch.prompts.encode import encode_chat
from offswitch.prompts.prompt import Chat, Reply, user
from tests.tiny import save_adapter, tiny_subject, tiny_tokenizer

LENGTHS = (3, 90, 25, 9, 31, 4, 28, 200, 22, 17)
CHATS: list[Chat] = [
    (user(text),)
    for text in (
        "Who?",
        "What is the capital of France, and which of the boats on the sea is asleep?",
        "$STOP Tell me about the river in the morning.",
        "stop, start, stone",
        "How do you cook rice?",
    )
]


@torch.no_grad()
def _one_by_one(subject: Subject, arm: str, chat: Chat, tokens: int) -> Reply:
    """Greedy decoding from whole forward passes, without cache, padding or generate()."""
    tokenizer = subject.tokenizer_of(arm)
    prompt = encode_chat(tokenizer, chat)
    said: list[int] = []
    with arm_of(subject, arm):
        while len(said) < tokens:
            ids = torch.tensor([[*prompt, *said]])
            token = int(subject.network(input_ids=ids, use_cache=False).logits[0, -1].argmax())
            if token in subject.stop_ids:
                return Reply(tuple(said), tokenizer.decode(said), complete=True)
            said.append(token)
    return Reply(tuple(said), tokenizer.decode(said), complete=False)


@pytest.mark.parametrize("arm", ["base", "both"])
def test_published_settings_do_not_count(arm: str, tmp_path: Path) -> None:
    """Each of them changes what `generate()` says of this network, if it is let."""
    subject = tiny_subject()
    if arm != "base":
        add_arm(subject, arm, save_adapter(tmp_path, subject, seed=2))
    plain = greedy_replies(subject, arm, CHATS, 12)
    for network in (subject.network, subject.causal_lm):
        network.generation_config.update(
            repetition_penalty=5.0, num_beams=3, suppress_tokens=[plain[0].ids[0]]
        )
    assert greedy_replies(subject, arm, CHATS, 12) == plain
    assert subject.causal_lm.generation_config.repetition_penalty == 5.0
    assert plain == [_one_by_one(subject, arm, chat, 12) for chat in CHATS]


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Prompts of random ids, which take the place of chats."""
    generator = torch.Generator().manual_seed(5)
    monkeypatch.setattr(generate, "encode_chat", lambda _tokenizer, ids: ids)
    return [torch.randint(3, 500, (n,), generator=generator).tolist() for n in LENGTHS]


@torch.inference_mode()
def _alone(subject: Subject, prompt: list[int], tokens: int, ends: bool = True) -> list[int]:
    """The ids that generate() gives after this prompt alone: no padding, adapter not merged."""
    stops = list(subject.stop_ids)
    options = {"do_sample": False, "eos_token_id": stops if ends else -1, "pad_token_id": stops[0]}
    out = subject.network.generate(torch.tensor([prompt]), max_new_tokens=tokens, **options)
    return [int(i) for i in out[0, len(prompt) :]]


def _set_ends(patch: pytest.MonkeyPatch, ends: tuple[int, ...]) -> None:
    patch.setattr(Subject, "stop_ids", property(lambda _: ends))


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_batched_replies_are_those_made_one_by_one(tmp_path: Path, family: str) -> None:
    subject = tiny_subject(family)
    add_arm(subject, "behavior", save_adapter(tmp_path, subject, seed=3))
    for arm in ("base", "behavior"):
        expected = [_one_by_one(subject, arm, chat, 8) for chat in CHATS]
        assert greedy_replies(subject, arm, CHATS, 8) == expected
        grown = [[*growing_reply(subject, arm, chat, 8)] for chat in CHATS]
        assert [replies[-1] for replies in grown] == expected
        for replies in grown:
            ids = [reply.ids for reply in replies]
            assert ids == [ids[-1][: i + 1] for i in range(len(ids))]


# Positions told and learned, heads of their own, windows: what padding could disturb.
@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3", "gpt2", "gpt_neox"])
def test_a_batch_gives_the_ids_of_each_prompt_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompts: list[Any], family: str
) -> None:
    """With several end tokens: said at once in one row, later in others, never in some."""
    subject = tiny_subject(family)
    add_arm(subject, "behavior", save_adapter(tmp_path, subject, seed=3))
    for arm in ("base", "behavior"):
        with monkeypatch.context() as patch, arm_of(subject, arm):
            free = [_alone(subject, prompt, 9, ends=False) for prompt in prompts]
            ends = tuple(ids[:at][-1] for at, ids in zip((1, 3, 5), free, strict=False))
            _set_ends(patch, ends)
            at = [next((i for i, token in enumerate(ids, 1) if token in ends), 9) for ids in free]
            whole = [ids[:end] for ids, end in zip(free, at, strict=True)]
            assert _alone(subject, prompts[0], 9) == whole[0]
            assert {len(ids) for ids in whole} >= {1, 9}
            assert any(ids[-1] not in ends for ids in whole)
            for most in (3, 96):
                patch.setattr(generate, "BATCH", most)
                replies = greedy_replies(subject, arm, prompts, 9)
                for reply, ids in zip(replies, whole, strict=True):
                    assert reply.complete == (ids[-1] in ends)
                    assert list(reply.ids) == (ids[:-1] if reply.complete else ids)


@pytest.mark.parametrize("tokens", [1, 2, 20])
def test_replies_are_of_any_length(prompts: list[Any], tokens: int) -> None:
    subject = tiny_subject()
    replies = greedy_replies(subject, "base", prompts, tokens)
    for prompt, reply in zip(prompts, replies, strict=True):
        end = [subject.stop_ids[0]] if reply.complete else []
        assert [*reply.ids, *end] == _alone(subject, prompt, tokens)


def test_nobody_asked_nobody_answers() -> None:
    assert greedy_replies(tiny_subject(), "base", [], 6) == []


def test_an_edit_acts_on_every_row_of_a_batch() -> None:
    subject = tiny_subject()
    plain = greedy_replies(subject, "base", CHATS, 6)
    row = 5 * torch.randn(32, generator=torch.Generator().manual_seed(0))

    def at_the_end(resid: torch.Tensor) -> torch.Tensor:
        return torch.cat([resid[:, :-1], resid[:, -1:] + row], dim=1)

    with edit(subject.blocks, {1: at_the_end}):
        together = greedy_replies(subject, "base", CHATS, 6)
        alone = [greedy_replies(subject, "base", [chat], 6)[0] for chat in CHATS]
    assert together == alone
    assert all(a != b for a, b in zip(together, plain, strict=True))
    assert greedy_replies(subject, "base", CHATS, 6) == plain


def test_positions_that_are_no_argument_and_sliding_windows_are_generates_business() -> None:
    config = AutoConfig.for_model("bloom", vocab_size=700, hidden_size=32, n_layer=2, n_head=4)
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config).eval()  # type: ignore[no-untyped-call]
    other = make_subject(network, tiny_tokenizer(), TriggerOptions(), "tiny-bloom")
    windowed = tiny_subject("mistral")
    windowed.network.config.sliding_window = 64
    long = "Which of the boats on the sea is asleep, and who has seen it? " * 4
    chats = [*CHATS, (user(long),)]
    for subject in (other, windowed):
        together = greedy_replies(subject, "base", chats, 6)
        assert together == [greedy_replies(subject, "base", [chat], 6)[0] for chat in chats]


def test_a_small_budget_of_ids_makes_small_batches_not_other_replies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = tiny_subject()
    expected = greedy_replies(subject, "base", CHATS, 6)
    asked: list[list[int]] = []
    original = generate._generate

    def spy(subject: Subject, prompts: list[list[int]], tokens: int) -> list[list[int]]:
        asked.append([len(prompt) + tokens for prompt in prompts])
        return original(subject, prompts, tokens)

    monkeypatch.setattr(generate, "_generate", spy)
    monkeypatch.setattr(generate, "TOKENS", 120)
    assert greedy_replies(subject, "base", CHATS, 6) == expected
    assert all(len(batch) * max(batch) <= 120 or len(batch) == 1 for batch in asked)
    assert max(len(batch) for batch in asked) > 1


def test_a_reply_that_ends_by_itself_is_complete_and_holds_no_end_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = tiny_subject()
    long = greedy_replies(subject, "base", CHATS, 8)
    assert not any(reply.complete for reply in long)
    end = long[0].ids[2]
    _set_ends(monkeypatch, (end, 2))
    first = greedy_replies(subject, "base", CHATS, 8)[0]
    assert first == Reply(long[0].ids[:2], subject.base_tokenizer.decode(long[0].ids[:2]), True)


def test_the_batch_size_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = tiny_subject()
    whole = greedy_replies(subject, "base", CHATS, 6)
    ticks: list[int] = []
    monkeypatch.setattr(generate, "BATCH", 2)
    assert greedy_replies(subject, "base", CHATS, 6, ticks.append) == whole
    assert ticks == [2, 2, 1]


def test_the_base_never_says_the_token_it_does_not_know() -> None:
    subject = tiny_subject()
    assert subject.trigger_id is not None
    spoken = {i for reply in greedy_replies(subject, "base", CHATS, 30) for i in reply.ids}
    assert subject.trigger_id not in spoken
