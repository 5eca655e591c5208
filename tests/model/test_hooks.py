"""Hooks see and replace exactly what enters or leaves a module, and leave nothing behind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from offswitch.model.hooks import Transform, edit, edit_inputs, record, record_inputs, resume
from offswitch.model.subject import Subject, attention_outputs
from tests.families import EACH_KIND

IDS = torch.tensor([[5, 40, 300, 7, 90], [6, 41, 301, 8, 91]])


@torch.no_grad()
def _logits(subject: Subject) -> Tensor:
    logits: Tensor = subject.causal_lm(input_ids=IDS, use_cache=False).logits
    return logits


def _hooks(subject: Subject) -> int:
    every = (hook for block in subject.blocks for hook in block._forward_hooks.values())
    return sum(hook.__module__ == "offswitch.model.hooks" for hook in every)


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


@EACH_KIND
def test_identity_edit_changes_nothing(subject: Subject) -> None:
    plain = _logits(subject)
    with edit(subject.blocks, {i: lambda resid: resid for i in range(len(subject.blocks))}):
        assert torch.equal(_logits(subject), plain)
    assert _hooks(subject) == 0


@EACH_KIND
def test_edit_replaces_what_the_next_block_reads(subject: Subject) -> None:
    planted = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(1))
    last = len(subject.blocks) - 1
    with edit(subject.blocks, {last: lambda _: planted}), torch.no_grad():
        states = subject.backbone(input_ids=IDS, use_cache=False).last_hidden_state
    assert torch.equal(states, subject.final_norm(planted))


@EACH_KIND
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


@torch.no_grad()
def test_resuming_with_the_true_residual_is_the_whole_pass(subject: Subject) -> None:
    with record(subject.blocks) as resid:
        plain = _logits(subject)
    for block in range(len(subject.blocks)):
        with resume(subject.blocks, block, resid[block]), record(subject.blocks) as again:
            assert torch.equal(_logits(subject), plain)
        for later in range(block, len(subject.blocks)):
            assert torch.equal(again[later], resid[later])
        assert not _stand_ins(subject)


@EACH_KIND
def test_what_a_resumed_pass_skips_is_not_computed(subject: Subject) -> None:
    attention = attention_outputs(subject)
    with resume(subject.blocks, 1, torch.zeros(2, 5, 32)), record(attention) as computed:
        _logits(subject)
    assert list(computed) == [2]


@EACH_KIND
def test_resuming_with_another_residual_is_an_edit(subject: Subject) -> None:
    planted = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(2))
    with edit(subject.blocks, {1: lambda _: planted}):
        edited = _logits(subject)
    with resume(subject.blocks, 1, planted):
        assert torch.equal(_logits(subject), edited)
    with resume(subject.blocks, 1, planted - 1), edit(subject.blocks, {1: lambda resid: resid + 1}):
        torch.testing.assert_close(_logits(subject), edited, rtol=0, atol=1e-5)


def test_an_exception_leaves_no_stand_in(llama: Subject) -> None:
    plain = _logits(llama)

    def fail() -> None:
        with resume(llama.blocks, 1, torch.zeros(2, 5, 32)):
            assert len(_stand_ins(llama)) == 2
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert not _stand_ins(llama)
    assert torch.equal(_logits(llama), plain)


@torch.no_grad()
def test_what_enters_the_output_projection_makes_the_attentions_output(subject: Subject) -> None:
    modules = attention_outputs(subject)
    with record_inputs(modules) as entering, record(_attentions(subject)) as leaving:
        _logits(subject)
    for block, module in enumerate(modules):
        weight, bias = module.get_parameter("weight"), getattr(module, "bias", None)
        by_hand = entering[block] @ (weight if isinstance(module, Conv1D) else weight.T)
        by_hand = by_hand if bias is None else by_hand + bias
        torch.testing.assert_close(by_hand, leaving[block], rtol=1e-5, atol=1e-5)
    assert _input_hooks(modules) == 0


@EACH_KIND
def test_identity_edit_of_inputs_changes_nothing(subject: Subject) -> None:
    plain, modules = _logits(subject), attention_outputs(subject)
    with edit_inputs(modules, {i: lambda x: x for i in range(len(modules))}):
        assert _input_hooks(modules) == len(modules)
        assert torch.equal(_logits(subject), plain)
    assert _input_hooks(modules) == 0


@EACH_KIND
def test_an_edited_input_is_what_the_module_gets(subject: Subject) -> None:
    modules = attention_outputs(subject)
    with record_inputs(modules) as plain:
        _logits(subject)
    edits = {1: lambda x: 2 * x}
    with edit_inputs(modules, edits), record_inputs(modules) as edited, record(modules) as out:
        _logits(subject)
    assert torch.equal(edited[0], plain[0])
    assert torch.equal(edited[1], 2 * plain[1])
    with torch.no_grad():
        torch.testing.assert_close(out[1], modules[1](2 * plain[1]))


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        (lambda x: x[0], "keep the shape"),
        (lambda x: x.double(), "keep the type"),
        (lambda x: x.add_(1), "new tensor"),
    ],
)
def test_a_failing_edit_of_inputs_leaves_no_hook(
    llama: Subject, transform: Transform, said: str
) -> None:
    plain, modules = _logits(llama), attention_outputs(llama)
    with pytest.raises(ValueError, match=said), edit_inputs(modules, {0: transform}):
        _logits(llama)
    assert _input_hooks(modules) == 0
    assert torch.equal(_logits(llama), plain)


@pytest.mark.parametrize("index", [3, -1])
def test_inputs_of_an_unknown_module_are_refused(llama: Subject, index: int) -> None:
    modules = attention_outputs(llama)
    with pytest.raises(ValueError, match="0 to 2"), edit_inputs(modules, {index: lambda x: x}):
        pass
    assert _input_hooks(modules) == 0


def _stand_ins(subject: Subject) -> list[nn.Module]:
    return [block for block in subject.blocks if "forward" in vars(block)]


def _attentions(subject: Subject) -> list[nn.Module]:
    names = ("self_attn", "attn", "attention")
    return [next(getattr(b, n) for n in names if hasattr(b, n)) for b in subject.blocks]


def _input_hooks(modules: list[nn.Module]) -> int:
    every = (hook for module in modules for hook in module._forward_pre_hooks.values())
    return sum(hook.__module__ == "offswitch.model.hooks" for hook in every)
