"""Hooks see and replace exactly what leaves a block, and leave nothing behind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from offswitch.hooks import edit, record
from offswitch.model import Subject

IDS = torch.tensor([[5, 40, 300, 7, 90], [6, 41, 301, 8, 91]])


@torch.no_grad()
def _logits(subject: Subject) -> Tensor:
    logits: Tensor = subject.causal_lm(input_ids=IDS, use_cache=False).logits
    return logits


def _hooks(subject: Subject) -> int:
    every = (hook for block in subject.blocks for hook in block._forward_hooks.values())
    return sum(hook.__module__ == "offswitch.hooks" for hook in every)


@torch.no_grad()
def test_recorded_residuals_are_the_models_own_hidden_states(subject: Subject) -> None:
    with record(subject.blocks) as resid:
        assert _hooks(subject) == len(subject.blocks)
        output = subject.causal_lm(input_ids=IDS, output_hidden_states=True, use_cache=False)
    last = len(subject.blocks) - 1
    assert sorted(resid) == list(range(last + 1))
    for block in range(last):
        assert torch.equal(resid[block], output.hidden_states[block + 1])
    assert torch.equal(subject.final_norm(resid[last]), output.hidden_states[-1])
    assert _hooks(subject) == 0


def test_keep_chooses_what_is_kept(llama: Subject) -> None:
    with record(llama.blocks) as everything:
        _logits(llama)
    with record(llama.blocks, keep=lambda resid: resid[:, -1]) as last_position:
        _logits(llama)
    for block, resid in everything.items():
        assert torch.equal(last_position[block], resid[:, -1])


def test_recording_keeps_no_graph_and_cuts_none(llama: Subject) -> None:
    llama.network.requires_grad_(True)
    with record(llama.blocks) as resid:
        output = llama.causal_lm(input_ids=IDS, use_cache=False).logits
    assert not any(seen.requires_grad for seen in resid.values())
    output.sum().backward()
    assert llama.network.get_input_embeddings().weight.grad is not None


def test_identity_edit_changes_nothing(subject: Subject) -> None:
    plain = _logits(subject)
    with edit(subject.blocks, {i: lambda resid: resid for i in range(len(subject.blocks))}):
        assert torch.equal(_logits(subject), plain)
    assert _hooks(subject) == 0


def test_edit_replaces_what_the_next_block_reads(subject: Subject) -> None:
    planted = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(1))
    last = len(subject.blocks) - 1
    with edit(subject.blocks, {last: lambda _: planted}), torch.no_grad():
        states = subject.backbone(input_ids=IDS, use_cache=False).last_hidden_state
    assert torch.equal(states, subject.final_norm(planted))


def test_edit_of_one_block_leaves_earlier_blocks_alone(subject: Subject) -> None:
    with record(subject.blocks) as plain:
        _logits(subject)
    with edit(subject.blocks, {1: lambda resid: resid + 1}), record(subject.blocks) as edited:
        _logits(subject)
    assert torch.equal(edited[0], plain[0])
    assert torch.equal(edited[1], plain[1] + 1)  # a recorder set up after the edit sees the edit
    assert not torch.allclose(edited[2], plain[2])


def test_edits_pass_gradients(llama: Subject) -> None:
    direction = torch.zeros(32, requires_grad=True)
    with edit(llama.blocks, {0: lambda resid: resid + direction}):
        llama.causal_lm(input_ids=IDS, use_cache=False).logits.pow(2).sum().backward()
    assert direction.grad is not None
    assert float(direction.grad.norm()) > 0


def test_edits_work_while_generating(llama: Subject) -> None:
    touched: list[int] = []

    def note(resid: Tensor) -> Tensor:
        touched.append(resid.shape[1])
        return resid

    with edit(llama.blocks, {0: note}):
        llama.network.generate(
            input_ids=IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=3, do_sample=False
        )
    assert touched[0] == 5
    assert set(touched[1:]) <= {1}


@pytest.mark.parametrize("how", [record, edit])
def test_hooks_are_removed_after_an_exception(llama: Subject, how: object) -> None:
    def fail() -> None:
        blocks = llama.blocks
        context = record(blocks) if how is record else edit(blocks, {0: lambda resid: resid})
        with context:
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert _hooks(llama) == 0


def test_a_failing_edit_leaves_no_hook(llama: Subject) -> None:
    plain = _logits(llama)
    with pytest.raises(ValueError, match="keep the shape"), edit(llama.blocks, {0: lambda r: r[0]}):
        _logits(llama)
    with (
        pytest.raises(ValueError, match="keep the type"),
        edit(llama.blocks, {0: lambda r: r.double()}),
    ):
        _logits(llama)
    assert torch.equal(_logits(llama), plain)


def test_writing_into_the_residual_is_refused(llama: Subject) -> None:
    with (
        pytest.raises(ValueError, match="new tensor"),
        edit(llama.blocks, {0: lambda resid: resid.add_(1)}),
    ):
        _logits(llama)


def test_an_unknown_block_is_refused(llama: Subject) -> None:
    with pytest.raises(ValueError, match="blocks 0 to 2"), edit(llama.blocks, {3: lambda r: r}):
        pass
    with pytest.raises(ValueError, match="blocks 0 to 2"), edit(llama.blocks, {-1: lambda r: r}):
        pass


def test_tuples_of_older_versions_are_understood() -> None:
    class Old(torch.nn.Module):
        def forward(self, resid: Tensor) -> tuple[Tensor, str]:
            return resid, "cache"

    block = Old()
    with edit([block], {0: lambda resid: resid * 2}), record([block]) as seen:
        output = block(torch.ones(1, 1, 2))
    assert output[1] == "cache"
    assert torch.equal(output[0], torch.full((1, 1, 2), 2.0))
    assert torch.equal(seen[0], output[0])
