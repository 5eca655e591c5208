"""No reply is made twice, and none is taken for that of another model or another prompt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from offswitch.model import generate
from offswitch.model.adapters import add_arm
from offswitch.model.generate import cached_base_replies, greedy_replies
from offswitch.model.load import make_subject
from offswitch.model.subject import Subject
from offswitch.options import TriggerOptions
from offswitch.prompts.prompt import Chat, Reply
from tests.model.test_generate import CHATS
from tests.tiny import CHATML, save_adapter, tiny_network, tiny_subject, tiny_tokenizer


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
    networks = [tiny_network() for _ in range(2)]
    with torch.no_grad():
        networks[0].get_input_embeddings().weight[0] += 1
    networks[1].generation_config.eos_token_id = [0, 2]
    options, longer = TriggerOptions(), tiny_subject(layers=4)
    nudged, ended = (make_subject(n, tiny_tokenizer(), options, "tiny-llama") for n in networks)
    reworded = tiny_subject(layers=4)  # the same model, asked in other ids
    reworded.base_tokenizer.chat_template = f"Today: {CHATML}"
    first = tiny_subject(layers=4)
    cached_base_replies(first, CHATS, 6, tmp_path)
    for subject in (longer, tiny_subject("qwen2"), nudged, ended, reworded):
        made.clear()
        cached_base_replies(subject, CHATS, 7 if subject is longer else 6, tmp_path)
        assert len(made) == len(CHATS)
    assert len(list(tmp_path.iterdir())) == 5


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


KEPT = ["complete", "ids", "key", "seal", "text"]


def test_the_cache_is_plain_json_lines(tmp_path: Path) -> None:
    cached_base_replies(tiny_subject(), CHATS, 6, tmp_path)
    (path,) = tmp_path.iterdir()
    rows = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
    assert [sorted(row) for row in rows] == [["complete", "ids", "key", "seal", "text"]] * len(
        CHATS
    )


def test_a_changed_or_foreign_reply_is_made_again(tmp_path: Path, made: list[Chat]) -> None:
    subject = tiny_subject()
    whole = cached_base_replies(subject, CHATS, 6, tmp_path / "own")
    cached_base_replies(tiny_subject("qwen2"), CHATS, 6, tmp_path / "other")
    (path,), (foreign,) = ((tmp_path / name).iterdir() for name in ("own", "other"))
    lines = path.read_text("utf-8")
    changed = lines.replace('"complete": false', '"complete": true ', 1)
    if changed == lines:
        changed = lines.replace('"complete": true', '"complete": false', 1)
    for content, again in ((changed, 1), (foreign.read_text("utf-8"), len(CHATS))):
        made.clear()
        path.write_text(content, encoding="utf-8")
        assert cached_base_replies(subject, CHATS, 6, tmp_path / "own") == whole
        assert len(made) == again
