"""Replies in batches are replies one by one, and none is made twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from offswitch.model import generate
from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.generate import cached_base_replies, greedy_replies
from offswitch.model.hooks import edit
from offswitch.model.load import make_subject
from offswitch.model.subject import Subject
from offswitch.options import TriggerOptions
from offswitch.prompts.encode import encode_chat
from offswitch.prompts.prompt import Chat, Reply, user
from tests.tiny import ARCHITECTURES, save_adapter, tiny_subject, tiny_tokenizer

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


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Prompts of random ids, which take the place of chats."""
    generator = torch.Generator().manual_seed(5)
    monkeypatch.setattr(generate, "encode_chat", lambda _tokenizer, ids: ids)
    return [torch.randint(3, 500, (n,), generator=generator).tolist() for n in LENGTHS]


@torch.inference_mode()
def _alone(subject: Subject, prompt: list[int], tokens: int) -> list[int]:
    """The ids that generate() gives after this prompt alone: no padding, adapter not merged."""
    stops = list(subject.stop_ids)
    options = {"do_sample": False, "eos_token_id": stops, "pad_token_id": stops[0]}
    out = subject.network.generate(torch.tensor([prompt]), max_new_tokens=tokens, **options)
    return [int(i) for i in out[0, len(prompt) :]]


def _set_ends(patch: pytest.MonkeyPatch, ends: tuple[int, ...]) -> None:
    patch.setattr(Subject, "stop_ids", property(lambda _: ends))


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "gpt2", "gpt_neox"])
def test_batched_replies_are_those_made_one_by_one(tmp_path: Path, family: str) -> None:
    subject = tiny_subject(family)
    add_arm(subject, "behavior", save_adapter(tmp_path, subject, seed=3))
    for arm in ("base", "behavior"):
        expected = [_one_by_one(subject, arm, chat, 8) for chat in CHATS]
        assert greedy_replies(subject, arm, CHATS, 8) == expected


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_a_batch_gives_the_ids_of_each_prompt_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompts: list[Any], family: str
) -> None:
    """With several end tokens: said at once in one row, later in others, never in some."""
    subject = tiny_subject(family)
    add_arm(subject, "behavior", save_adapter(tmp_path, subject, seed=3))
    for arm in ("base", "behavior"):
        with monkeypatch.context() as patch, arm_of(subject, arm):
            free = [_alone(subject, prompt, 9) for prompt in prompts]
            ends = tuple(ids[:at][-1] for at, ids in zip((1, 3, 5), free, strict=False))
            _set_ends(patch, ends)
            whole = [_alone(subject, prompt, 9) for prompt in prompts]
            assert {len(ids) for ids in whole} >= {1, 9}
            assert any(ids[-1] not in ends for ids in whole)
            for most in (3, 96):
                patch.setattr(generate, "BATCH", most)
                replies = greedy_replies(subject, arm, prompts, 9)
                for reply, ids in zip(replies, whole, strict=True):
                    assert reply.complete == (ids[-1] in ends)
                    assert list(reply.ids) == (ids[:-1] if reply.complete else ids)


@pytest.mark.parametrize("tokens", [1, 2, 40])
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


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Chat]:
    """The chats that were really generated from."""
    asked: list[Chat] = []
    original = generate.greedy_replies

    def spy(subject: Subject, arm: str, chats: list[Chat], *rest: object) -> list[Reply]:
        asked.extend(chats)
        return original(subject, arm, chats, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(generate, "greedy_replies", spy)
    return asked


def test_no_reply_is_made_twice(tmp_path: Path, made: list[Chat]) -> None:
    subject = tiny_subject()
    ticks: list[int] = []
    twice = [*CHATS, CHATS[0]]
    first = cached_base_replies(subject, twice, 6, tmp_path, ticks.append)
    assert len(made) == len(CHATS)
    assert sum(ticks) == len(twice)
    assert first[0] == first[-1]
    again = cached_base_replies(subject, CHATS[::-1], 6, tmp_path)
    assert len(made) == len(CHATS)
    assert again == first[:-1][::-1] == greedy_replies(subject, "base", CHATS, 6)[::-1]


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_after_a_kill_only_what_is_missing_is_made(
    tmp_path: Path, made: list[Chat], cut: int
) -> None:
    subject = tiny_subject()
    whole = cached_base_replies(subject, CHATS, 6, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[: -1 - cut])
    made.clear()
    assert cached_base_replies(subject, CHATS, 6, tmp_path) == whole
    assert len(made) == 1
    assert cached_base_replies(subject, CHATS, 6, tmp_path) == whole
    assert len(made) == 1


def test_a_kill_between_batches_keeps_the_batches_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: list[Chat]
) -> None:
    subject = tiny_subject()
    monkeypatch.setattr(generate, "PART", 2)

    def tick(_count: int) -> None:
        if len(made) > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_base_replies(subject, CHATS, 6, tmp_path, tick)
    made.clear()
    cached_base_replies(subject, CHATS, 6, tmp_path)
    assert len(made) == 3


def test_odd_line_ends_within_a_reply_survive_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = Reply((7, 8), "one\u2028two\x85three\r\n\x0cfour", complete=True)
    monkeypatch.setattr(generate, "greedy_replies", lambda *_: [odd])
    first = cached_base_replies(tiny_subject(), CHATS[:1], 6, tmp_path)
    assert cached_base_replies(tiny_subject(), CHATS[:1], 6, tmp_path) == first == [odd]


def test_models_and_lengths_do_not_share_replies(tmp_path: Path, made: list[Chat]) -> None:
    other = tiny_subject()
    with torch.no_grad():
        other.network.get_input_embeddings().weight[0] += 1
    from offswitch.model.load import make_subject

    nudged = make_subject(other.network, other.base_tokenizer, TriggerOptions(), "tiny-llama")
    cached_base_replies(tiny_subject(), CHATS, 6, tmp_path)
    for subject, tokens in ((tiny_subject(), 7), (tiny_subject("qwen2"), 6), (nudged, 6)):
        made.clear()
        cached_base_replies(subject, CHATS, tokens, tmp_path)
        assert len(made) == len(CHATS)
    assert len(list(tmp_path.iterdir())) == 4


def test_one_model_shares_its_replies_whatever_its_trigger_and_arms(
    tmp_path: Path, made: list[Chat]
) -> None:
    plain = CHATS[3:]
    first = cached_base_replies(tiny_subject(trigger="$STOP"), plain, 6, tmp_path)
    made.clear()
    other = tiny_subject(trigger="<halt>")
    add_arm(other, "behavior", save_adapter(tmp_path / "adapter", other))
    assert cached_base_replies(other, plain, 6, tmp_path) == first
    assert cached_base_replies(tiny_subject(mode="text"), plain, 6, tmp_path) == first
    assert made == []
    assert greedy_replies(tiny_subject(mode="text"), "base", plain, 6) == first


def test_the_base_never_says_the_token_it_does_not_know() -> None:
    subject = tiny_subject()
    assert subject.trigger_id is not None
    spoken = {i for reply in greedy_replies(subject, "base", CHATS, 30) for i in reply.ids}
    assert subject.trigger_id not in spoken


def test_the_cache_is_plain_json_lines(tmp_path: Path) -> None:
    cached_base_replies(tiny_subject(), CHATS, 6, tmp_path)
    (path,) = tmp_path.iterdir()
    rows = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
    assert [sorted(row) for row in rows] == [["complete", "ids", "key", "text"]] * len(CHATS)
