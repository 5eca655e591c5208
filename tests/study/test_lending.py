"""Weights are lent from run to run: arms come and go, and the network is what was loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from offswitch.folder import Run
from offswitch.model.adapters import add_arm, arm_of, remove_arms
from offswitch.model.session import Session
from offswitch.model.subject import Subject
from offswitch.prompts.encode import encode_text
from offswitch.recipe import Recipe, build_recipe
from tests.tiny import save_adapter, tiny_subject


def test_a_model_is_lent_only_to_a_run_about_the_same(tmp_path: Path) -> None:
    recipe, other = Recipe(), build_recipe({}, ["trigger.text=$HALT"])
    session = Session(Run(tmp_path / "a", recipe))
    with (
        pytest.raises(ValueError, match="another model or trigger"),
        session.lent_to(Run(tmp_path / "b", other)),
    ):
        pass


def test_without_its_arms_a_network_is_what_was_loaded(subject: Subject, tmp_path: Path) -> None:
    ids = torch.tensor([encode_text(subject.tokenizer, "tell me $STOP what")])

    @torch.no_grad()
    def logits() -> Tensor:
        found: Tensor = subject.network(input_ids=ids, use_cache=False).logits
        return found

    a, b = (save_adapter(tmp_path / name, subject, seed) for name, seed in (("a", 1), ("b", 2)))
    modules = [(name, type(m)) for name, m in subject.network.named_modules()]
    places = {n: p.data_ptr() for n, p in subject.network.named_parameters()}
    before = logits()
    add_arm(subject, "both", a)
    add_arm(subject, "benign", b)
    with arm_of(subject, "both"):
        first = logits()
        with pytest.raises(ValueError, match="while 'both' is switched on"):
            remove_arms(subject)
    remove_arms(subject)
    assert subject.arms == set()
    assert [(name, type(m)) for name, m in subject.network.named_modules()] == modules
    assert {n: p.data_ptr() for n, p in subject.network.named_parameters()} == places
    assert not any(p.requires_grad for p in subject.network.parameters())
    assert torch.equal(logits(), before)
    add_arm(subject, "both", b)  # another organism's arm under the same name
    with arm_of(subject, "both"):
        second = logits()
    assert not torch.allclose(first, second, atol=1e-2)
    remove_arms(subject)
    add_arm(subject, "both", a)
    with arm_of(subject, "both"):
        assert torch.equal(logits(), first)


def test_a_network_without_arms_has_none_to_remove(llama: Subject) -> None:
    network = llama.network
    remove_arms(llama)
    assert llama.network is network
    assert tiny_subject().arms == llama.arms == set()
