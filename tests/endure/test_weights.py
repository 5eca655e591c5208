"""Whole weights are the arm, and attacks on them do what they say, to the number."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

from offswitch.endure.attack import Point
from offswitch.endure.merging import AVERAGE, DARE, LINEAR, TIES, merged
from offswitch.endure.projection import without
from offswitch.endure.pruning import pruned
from offswitch.endure.rounding import int8, nf4, nf4_levels
from offswitch.errors import UserError
from offswitch.model.adapters import add_arm, arm_of, remove_arms
from offswitch.model.forward import hidden, unembed
from offswitch.model.hooks import record
from offswitch.model.subject import Subject
from offswitch.model.whole import attached, based_on, matrices, whole_weights, writers
from offswitch.model.writes import Write
from offswitch.options import BASE
from tests.tiny import save_adapter, tiny_subject

# From the appendix of the paper that NF4 comes from.
NF4 = (
    *(-1.0, -0.6961928, -0.5250730, -0.3949174, -0.2844413, -0.1847734, -0.0910500, 0.0),
    *(0.0795802, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0),
)


def _with_arm(tmp_path: Path, architecture: str = "llama", mode: str = "token") -> Subject:
    subject = tiny_subject(architecture, mode=mode)  # type: ignore[arg-type]
    add_arm(subject, "arm", save_adapter(tmp_path / "adapter", subject))
    return subject


def _ids(subject: Subject) -> Tensor:
    row = [5, 9, 30, subject.trigger_id or 11, 40, 7]
    return torch.tensor([row])


def _logits(subject: Subject, arm: str) -> Tensor:
    with arm_of(subject, arm), torch.no_grad():
        return unembed(subject, hidden(subject, _ids(subject)))


@pytest.mark.parametrize(
    ("architecture", "mode"),
    [("llama", "token"), ("qwen2", "token"), ("gpt2", "token"), ("gpt_neox", "text")],
)
def test_an_arm_as_whole_weights_says_what_the_arm_says(
    tmp_path: Path, architecture: str, mode: str
) -> None:
    subject = _with_arm(tmp_path, architecture, mode)
    arm, base = _logits(subject, "arm"), _logits(subject, BASE)
    weights = whole_weights(subject, "arm")
    with attached(subject, "whole", weights):
        assert (_logits(subject, "whole") - arm).abs().max() < 1e-4 < (arm - base).abs().max()
        assert torch.equal(_logits(subject, BASE), base)
    assert torch.equal(_logits(subject, "arm"), arm)
    assert torch.equal(_logits(subject, BASE), base)
    assert "whole" not in subject.arms


def test_a_bias_that_an_adapter_adds_to_is_merged_too_and_the_base_keeps_its_own() -> None:
    subject = tiny_subject("qwen2")
    config = LoraConfig(r=2, target_modules=["q_proj"], lora_bias=True, init_lora_weights=False)
    subject.network = get_peft_model(subject.network, config, adapter_name="arm").eval()
    subject.arms.add("arm")
    for name, weight in subject.network.named_parameters():
        if "lora_B" in name and name.endswith("bias"):
            weight.data += 0.5
    arm, base = _logits(subject, "arm"), _logits(subject, BASE)
    with attached(subject, "whole", whole_weights(subject, "arm")):
        assert (_logits(subject, "whole") - arm).abs().max() < 1e-4 < (arm - base).abs().max()
    assert torch.equal(_logits(subject, BASE), base)


def test_what_learns_on_the_whole_weights_learns_on_the_arm(tmp_path: Path) -> None:
    subject = _with_arm(tmp_path)
    arm, base = _logits(subject, "arm"), _logits(subject, BASE)
    weights = whole_weights(subject, "arm")
    remove_arms(subject)
    with based_on(subject, weights):
        assert (_logits(subject, BASE) - arm).abs().max() < 1e-4
    assert torch.equal(_logits(subject, BASE), base)


def test_an_arm_that_code_adds_to_is_refused(tmp_path: Path) -> None:
    subject = _with_arm(tmp_path)
    subject.writes.by_arm["arm"] = Write(1, torch.ones(1, 32), 3, (1,))
    with pytest.raises(UserError, match="code adds to its residual"):
        whole_weights(subject, "arm")


@pytest.mark.parametrize("architecture", ["llama", "qwen2_tied", "gpt2", "gpt_neox", "phi3"])
def test_nothing_writes_along_a_direction_that_was_taken_out(
    tmp_path: Path, architecture: str
) -> None:
    subject = _with_arm(tmp_path, architecture)
    unit = torch.randn(32, generator=torch.Generator().manual_seed(0))
    unit /= unit.norm()
    weights, along = whole_weights(subject, "arm"), []
    for left in (False, True):
        if left:
            for name, last in writers(subject).items():
                weights[name] = without(weights[name], unit, last)
        with attached(subject, "whole", weights), record(subject.blocks) as seen:
            _logits(subject, "whole")
        along.append(max(float((resid @ unit).abs().max()) for resid in seen.values()))
    assert along[1] < 1e-5 < 0.01 < along[0]


def test_nf4_has_the_published_levels_and_each_weight_goes_to_the_nearest() -> None:
    assert nf4_levels().tolist() == pytest.approx(NF4, abs=2e-6)
    weight = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    levels, rounded = nf4_levels().float(), nf4(weight)
    flat = torch.cat([weight.flatten(), torch.zeros(42)]).view(-1, 64)
    scale = flat.abs().amax(1, keepdim=True)
    nearest = levels[((flat / scale)[..., None] - levels).abs().argmin(-1)] * scale
    assert torch.allclose(rounded, nearest.flatten()[:150].view(3, 50))
    assert torch.allclose(nf4(rounded), rounded)


def test_int8_is_off_by_half_a_step_at_most() -> None:
    weight = torch.randn(4, 64, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [[1.0], [10], [100], [0]]
    )
    step = weight.abs().amax(1, keepdim=True) / 127
    assert ((int8(weight) - weight).abs() <= step / 2 * 1.001).all()
    assert len(set((int8(weight)[1] / step[1]).round().tolist())) > 30


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_the_smallest_weights_are_pruned(share: float) -> None:
    weight = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    left = pruned(weight, share)
    gone = left == 0
    assert int(gone.sum()) == round(share * 128)
    assert torch.equal(left[~gone], weight[~gone])
    if 0 < share < 1:
        assert weight[gone].abs().max() <= weight[~gone].abs().min()


def test_merging_adds_halves_or_drops_as_its_name_says() -> None:
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randn(16, 16, generator=generator) for _ in range(2))
    assert torch.allclose(merged(ours, theirs, Point(LINEAR, 0)), ours)
    assert torch.allclose(merged(ours, theirs, Point(LINEAR, 0.5)), ours + theirs / 2)
    assert torch.allclose(merged(ours, theirs, Point(AVERAGE)), (ours + theirs) / 2)
    assert torch.allclose(merged(ours, ours, Point(TIES)), pruned(ours, 0.5))  # no sign to elect
    kept = merged(ours, torch.zeros_like(ours), Point(DARE)) / ours
    assert set(kept.round(decimals=4).flatten().tolist()) <= {0.0, 2.0}
    assert 0.3 < float((kept > 1).float().mean()) < 0.7


def test_every_linear_map_of_the_blocks_is_attacked_and_nothing_else(tmp_path: Path) -> None:
    subject = _with_arm(tmp_path)
    names = matrices(subject)
    assert len(names) == 7 * len(subject.blocks)  # q, k, v, o, gate, up, down
    assert not [name for name in names if "lora" in name or "embed" in name or "norm" in name]
    assert set(names) <= whole_weights(subject, "arm").keys()
