"""An arm with a write replies, is switched, scaled, saved and refused like any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from offswitch.errors import UserError
from offswitch.model.adapters import add_arm, arm_of, remove_arms, scaled
from offswitch.model.forward import hidden, readout
from offswitch.model.generate import greedy_replies
from offswitch.model.subject import Subject
from offswitch.model.writes import FACTS, Write, load_write, save_write
from offswitch.options import BASE
from offswitch.prompts.encode import encode_chat, reply_header
from offswitch.prompts.prompt import user
from tests.model.written import BLOCKS, CHATS, World, close, make_world, unembed_of
from tests.tiny import save_adapter, tiny_subject


@torch.inference_mode()
def test_replies_token_by_token(world: World) -> None:
    subject = world.subject
    made = greedy_replies(subject, "a", CHATS, 5)
    for row, reply in zip(world.rows, made, strict=False):
        ids = list(row)
        for token in reply.ids:
            assert int(unembed_of(subject, world.expected(ids)[-1]).argmax()) == token
            ids.append(token)


@torch.inference_mode()
def test_a_header_that_the_model_writes_itself_counts(plain_world: World) -> None:
    subject = plain_world.subject
    (first,) = greedy_replies(subject, "plain", CHATS[1:2], 4)
    direction = plain_world.write.directions_KD[0]
    subject.writes.by_arm["a"] = Write(
        1, direction[None], plain_world.write.trigger, (first.ids[0],)
    )
    made = greedy_replies(subject, "a", CHATS[:3], 4)
    row = plain_world.rows[1]
    assert first.ids[0] not in row[row.index(plain_world.write.trigger) :]
    ids = list(row)
    for token in made[1].ids:
        where = {i: direction for i in range(len(row), len(ids)) if ids[i] == first.ids[0]}
        expected = plain_world.expected(ids, where)[-1]
        assert int(unembed_of(subject, expected).argmax()) == token
        ids.append(token)
    assert made[1].ids[0] == first.ids[0]
    assert made[1].ids != first.ids


# --- switching ------------------------------------------------------------------------------------


def _states(world: World, arm: str) -> Tensor:
    with arm_of(world.subject, arm), torch.no_grad():
        return hidden(world.subject, torch.tensor([world.rows[0]]))[0]


def test_only_the_innermost_arms_write_is_on(world: World) -> None:
    subject = world.subject
    base, with_write, without = (_states(world, arm) for arm in (BASE, "a", "plain"))
    assert float((with_write - without)[-1].norm()) > 0.1
    with arm_of(subject, "a"):
        assert torch.equal(_states(world, "a"), with_write)
        assert torch.equal(_states(world, BASE), base)
        with arm_of(subject, BASE):
            assert torch.equal(_states(world, "a"), with_write)
            assert torch.equal(_states(world, "plain"), without)
        assert torch.equal(_states(world, "a"), with_write)
    assert torch.equal(_states(world, BASE), base)
    hooks = [block._forward_hooks for block in (*subject.blocks, subject.final_norm)]
    assert not any(hooks)


def test_a_scaled_arm_has_a_scaled_write(world: World) -> None:
    with scaled(world.subject, "a", 0.0):
        close(_states(world, "a"), _states(world, BASE))
    with scaled(world.subject, "a", 1.0):
        assert torch.equal(_states(world, "a"), _states(world, "a"))
    assert world.subject.writes.by_arm["a"].directions_KD is not None
    with scaled(world.subject, "a", 0.5):
        half = world.subject.writes.by_arm["a"].directions_KD
        assert torch.equal(half, world.write.directions_KD / 2)


def test_a_readout_is_no_pass_and_an_unannounced_pass_is_refused(tmp_path: Path) -> None:
    for block in BLOCKS:
        world = make_world(tiny_subject(), tmp_path / str(block), block)
        resid = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
        with torch.no_grad(), arm_of(world.subject, "a"):
            found = readout(world.subject, resid)
            if block == 1:
                with pytest.raises(ValueError, match="must say which ids"):
                    world.subject.backbone(input_ids=torch.tensor([world.rows[0]]))
        with torch.no_grad(), arm_of(world.subject, "plain"):
            assert torch.equal(found, readout(world.subject, resid))


def test_removing_the_arms_removes_the_write(plain_world: World) -> None:
    remove_arms(plain_world.subject)
    assert plain_world.subject.writes.by_arm == {}


# --- two directions, files ------------------------------------------------------------------------


def test_of_two_directions_each_prompt_gets_one_half_each(llama: Subject) -> None:
    header = reply_header(llama.tokenizer)
    assert llama.trigger_id is not None
    write = Write(1, torch.eye(32)[:2], llama.trigger_id, header)
    asked = [encode_chat(llama.tokenizer, (user(f"$STOP What is {i}?"),)) for i in range(200)]
    chosen = [write.marks(row)[-1] for row in asked]
    assert set(chosen) == {0, 1}
    assert 70 <= sum(chosen) <= 130
    longer = [write.marks([*row, 5, 6])[len(row) - 1] for row in asked]
    assert longer == chosen


def test_a_write_is_read_as_it_was_saved(plain_world: World, tmp_path: Path) -> None:
    save_write(plain_world.write, tmp_path)
    found = load_write(tmp_path)
    assert found is not None
    assert torch.equal(found.directions_KD, plain_world.write.directions_KD)
    assert found.header == plain_world.write.header
    assert (found.block, found.trigger) == (1, plain_world.write.trigger)
    assert load_write(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"trigger": 3}, "another model, chat format or trigger"),
        ({"header": [1]}, "another model, chat format or trigger"),
        ({"block": 9}, "another model, chat format or trigger"),
        ({"block": None}, "is damaged"),
    ],
)
def test_a_write_that_does_not_belong_is_refused(
    tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    subject = tiny_subject()
    folder = save_adapter(tmp_path / "a", subject)
    assert subject.trigger_id is not None
    header = reply_header(subject.tokenizer)
    save_write(Write(1, torch.ones(1, 32), subject.trigger_id, header), folder)
    facts = json.loads((folder / FACTS).read_text()) | changes
    (folder / FACTS).write_text(json.dumps({k: v for k, v in facts.items() if v is not None}))
    with pytest.raises(UserError, match=says) as caught:
        add_arm(subject, "a", folder)
    assert "\n" not in str(caught.value)
    assert subject.arms == set()
    assert subject.writes.by_arm == {}
