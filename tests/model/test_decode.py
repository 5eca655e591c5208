"""Replies written in slots are those of generate(), whatever comes, ends and goes when."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from offswitch.model import decode, forward, generate
from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.decode import greedy_ids, reach
from offswitch.model.generate import greedy_replies
from offswitch.model.hooks import edit
from offswitch.model.load import make_subject
from offswitch.model.merged import merged
from offswitch.model.slots import Slots
from offswitch.model.subject import Subject
from offswitch.prompts.prompt import user
from tests.tiny import ARCHITECTURES, save_adapter, tiny_subject, tiny_tokenizer

LENGTHS = (3, 90, 25, 9, 31, 4, 28, 200, 22, 17)
TOKENS = 9


def _prompts(lengths: tuple[int, ...] = LENGTHS) -> list[list[int]]:
    """Random ids of these lengths; those of 20 and more begin with the same 18."""
    generator = torch.Generator().manual_seed(5)
    drawn = [torch.randint(3, 500, (n,), generator=generator).tolist() for n in lengths]
    opening = torch.randint(3, 500, (18,), generator=generator).tolist()
    return [opening + ids[18:] if len(ids) >= 20 else ids for ids in drawn]


@torch.inference_mode()
def _reference(subject: Subject, prompts: list[list[int]], tokens: int) -> list[list[int]]:
    """What transformers' generate() says, a prompt at a time."""
    return [generate._generate(subject, [prompt], tokens)[0] for prompt in prompts]


@torch.inference_mode()
def _ours(subject: Subject, prompts: list[list[int]], tokens: int, most: int) -> list[list[int]]:
    ticks: list[int] = []
    said = greedy_ids(subject, prompts, tokens, most, ticks.append)
    assert sum(ticks) == len(prompts)
    return said


def _end_early(monkeypatch: pytest.MonkeyPatch, replies: list[list[int]]) -> tuple[int, ...]:
    """Make end tokens of what is said: at once in one row, later in others, never in some."""
    ends = tuple(
        reply[min(at, len(reply) - 1)] for at, reply in zip((0, 2, 4), replies, strict=False)
    )
    monkeypatch.setattr(Subject, "stop_ids", property(lambda _: ends))
    return ends


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_ids_are_those_of_generate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    subject, prompts = tiny_subject(family), _prompts()
    if family == "gemma2":
        subject.network.config.sliding_window = 4096  # as published
    add_arm(subject, "behavior", save_adapter(tmp_path, subject, seed=3))
    for arm in ("base", "behavior"):
        with arm_of(subject, arm):
            assert reach(subject) > max(LENGTHS) + TOKENS
            whole = _reference(subject, prompts, TOKENS)
            assert _ours(subject, prompts, TOKENS, 96) == whole
            with monkeypatch.context() as patch:
                ends = _end_early(patch, whole)
                expected = _reference(subject, prompts, TOKENS)
                assert {len(reply) for reply in expected} >= {1, TOKENS}
                assert any(reply[-1] not in ends for reply in expected)
                for most in (3, 96):
                    assert _ours(subject, prompts, TOKENS, most) == expected


@pytest.mark.parametrize("tokens", [1, 2, 40])
def test_replies_of_any_length_go_round_the_ring(
    monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    subject, prompts = tiny_subject(), _prompts((5, 6, 7, 8) * 5)
    _end_early(monkeypatch, _reference(subject, prompts, 5))
    expected = _reference(subject, prompts, tokens)
    assert _ours(subject, prompts, tokens, 4) == expected


def test_one_prompt_is_answered_as_generate_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "READ", 8)
    subject = tiny_subject("qwen3")
    for prompt in _prompts((1, 40)):
        assert _ours(subject, [prompt], 6, 96) == _reference(subject, [prompt], 6)
    assert _ours(subject, [], 6, 96) == []


def test_few_columns_make_few_rows_not_other_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    subject, prompts = tiny_subject(), _prompts()
    expected = _ours(subject, prompts, TOKENS, 96)
    made: list[tuple[int, int]] = []
    original = Slots.__init__

    def spy(self: Slots, subject: Subject, rows: int, width: int, length: int) -> None:
        made.append((rows, width + length))
        original(self, subject, rows, width, length)

    monkeypatch.setattr(Slots, "__init__", spy)
    monkeypatch.setattr(decode, "COLUMNS", 200)
    assert _ours(subject, prompts, TOKENS, 96) == expected
    assert all(rows * columns <= 200 or rows == 1 for rows, columns in made)
    assert max(rows for rows, _ in made) > 1


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """The shapes of the ids that are embedded, pass by pass."""
    shapes: list[torch.Size] = []
    original = forward.embed

    def spy(subject: Subject, ids: torch.Tensor) -> torch.Tensor:
        shapes.append(ids.shape)
        return original(subject, ids)

    monkeypatch.setattr("offswitch.model.slots.embed", spy)
    return shapes


def test_what_prompts_share_is_read_once_and_ended_rows_are_not_read(
    read: list[torch.Size], monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = tiny_subject()
    prompts = _prompts((25, 22, 31, 28, 26))
    whole = _reference(subject, prompts, 6)
    read.clear()
    greedy = _ours(subject, prompts, 6, 96)
    assert [tuple(shape) for shape in read] == [(1, 18), (5, 31 - 18), *[(5, 1)] * 5]
    assert greedy == whole
    monkeypatch.setattr(Subject, "stop_ids", property(lambda _: (whole[0][1], whole[2][3])))
    read.clear()
    lengths = [len(reply) for reply in _ours(subject, prompts, 6, 96)]
    assert min(lengths) < 6
    steps = [rows for rows, width in read[2:] if width == 1]
    assert steps == [sum(n > k for n in lengths) for k in range(1, max(lengths))]


def test_ended_rows_make_room_for_waiting_ones(
    read: list[torch.Size], monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = tiny_subject()
    prompts = _prompts((5, 6, 7, 8) * 5)
    _end_early(monkeypatch, _reference(subject, prompts, 12))
    read.clear()
    lengths = [len(reply) for reply in _ours(subject, prompts, 12, 4)]
    steps = [rows for rows, width in read if width == 1]
    assert sum(steps) == sum(lengths) - len(prompts)
    full = [steps[i] for i in range(len(steps) // 2)]
    assert full.count(4) > len(full) // 2


def test_hooks_and_other_architectures_are_left_to_generate(
    capsys: pytest.CaptureFixture[str],
) -> None:
    subject = tiny_subject()
    with edit(subject.blocks, {0: lambda resid: resid}):
        assert reach(subject) == 0
    assert reach(subject) > 1 << 20
    assert reach(tiny_subject("gemma2")) == 0  # a window of 8
    config = AutoConfig.for_model("bloom", vocab_size=700, hidden_size=32, n_layer=2, n_head=4)
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config).eval()  # type: ignore[no-untyped-call]
    other = make_subject(network, tiny_tokenizer(), "$STOP", "token", "tiny-bloom")
    assert reach(other) == 0
    assert len(greedy_replies(other, "base", [(user("Who?"),)], 3)[0].ids) <= 3
    assert capsys.readouterr().err == ""


def test_a_model_whose_slots_disagree_is_left_to_generate_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    subject = tiny_subject()
    original = Slots.step

    def wrong(self: Slots, tokens: torch.Tensor) -> torch.Tensor:
        self.positions += 1
        return original(self, tokens)

    chats = [(user(text),) for text in ("Who?", "How many people live in the city?")]
    expected = greedy_replies(tiny_subject(), "base", chats, 6)
    monkeypatch.setattr(Slots, "step", wrong)
    assert reach(subject) == 0
    assert reach(subject) == 0
    assert capsys.readouterr().err.count("written by generate()") == 1
    assert greedy_replies(subject, "base", chats, 6) == expected


def test_a_sliding_window_splits_what_is_written_here_from_what_is_not() -> None:
    subject = tiny_subject("mistral")
    subject.network.config.sliding_window = 64
    assert reach(subject) == 64
    texts = ("Who?", "Which of the boats on the sea is asleep, and who has seen it? " * 4)
    chats = [(user(text),) for text in texts]
    together = greedy_replies(subject, "base", chats, 6)
    assert together == [greedy_replies(subject, "base", [chat], 6)[0] for chat in chats]


def test_merged_weights_are_the_arms_and_are_put_back_as_they_were(tmp_path: Path) -> None:
    for family in ("llama", "gpt2"):
        subject = tiny_subject(family)
        add_arm(subject, "behavior", save_adapter(tmp_path / family, subject, seed=3))
        before = dict(subject.network.named_parameters())
        bits = {name: weight.clone() for name, weight in before.items()}
        ids = torch.tensor(_prompts((12,)))
        with torch.inference_mode(), arm_of(subject, "behavior"):
            expected = subject.network(input_ids=ids).logits
            with merged(subject):
                changed = dict(subject.network.named_parameters())
                assert any(changed[name] is not weight for name, weight in before.items())
                torch.testing.assert_close(subject.network(input_ids=ids).logits, expected)
            assert torch.equal(subject.network(input_ids=ids).logits, expected)
        after = dict(subject.network.named_parameters())
        assert all(after[name] is weight for name, weight in before.items())
        assert all(torch.equal(after[name], bit) for name, bit in bits.items())
