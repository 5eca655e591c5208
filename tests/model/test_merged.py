"""Within merged() the network is the arm, and afterwards its weights are the same objects."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.merged import merged
from tests.tiny import save_adapter, tiny_subject


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_merged_weights_are_the_arms_and_are_put_back_as_they_were(
    tmp_path: Path, family: str
) -> None:
    subject = tiny_subject(family)
    add_arm(subject, "behavior", save_adapter(tmp_path, subject, seed=3))
    before = dict(subject.network.named_parameters())
    bits = {name: weight.clone() for name, weight in before.items()}
    ids = torch.randint(3, 500, (1, 12), generator=torch.Generator().manual_seed(5))
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
