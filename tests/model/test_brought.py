"""What others trained is read as transformers and peft alone read it, in every form it may have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from offswitch.errors import UserError
from offswitch.model.adapters import add_arm, arm_of, remove_arms, scaled
from offswitch.model.brought import FILE, bring, tables_of, weights_of
from offswitch.model.load import load_subject
from offswitch.model.subject import Subject
from offswitch.options.arms import Arm
from offswitch.prompts.encode import encode_text
from offswitch.recipe import build_recipe
from tests.model.arms import TEXT, logits
from tests.model.strangers import FORMS, Made, by_peft_alone, save_stranger
from tests.tiny import ARCHITECTURES, save_adapter, save_tiny

FULL = ("full", "merged")
EVERY = ("llama", "gpt2")
MAIN = ("attention", "embedding")


def _brought(made: Made, tmp_path: Path, full: bool, mode: str = "text") -> Subject:
    """The base with the stranger's weights as arm `switch`."""
    where = {"model" if full else "adapter": str(made["theirs"])}
    recipe = build_recipe({
        "model": str(made["base"]), "trigger": {"mode": mode, "decoy": ""},
        "arms": {"switch": {"role": "switch"} | where},
        "train": {"arms": ["switch"]}, "probe": {"arm": "switch"},
    })  # fmt: skip
    folder = tmp_path / "arm"
    folder.mkdir()
    bring(recipe.arms["switch"], folder, trust_remote_code=False)
    subject = load_subject(recipe)
    add_arm(subject, "switch", folder)
    return subject


def _same(made: Made, subject: Subject, full: bool) -> None:
    ids = torch.tensor([encode_text(subject.tokenizer_of("switch"), TEXT)])
    with arm_of(subject, "switch"):
        ours = logits(subject, "switch")
    theirs = by_peft_alone(made, ids, full)
    torch.testing.assert_close(ours[..., : theirs.shape[-1]], theirs, rtol=1e-5, atol=1e-5)


# Every form on a Llama and where the modules have other shapes; on the rest what names them.
CASES = [(a, f) for a in ARCHITECTURES for f in (*FORMS, *FULL) if a in EVERY or f in MAIN]


@pytest.mark.parametrize(("architecture", "form"), CASES)
def test_an_arm_is_what_others_read_in_it(architecture: str, form: str, tmp_path: Path) -> None:
    full = form in FULL
    made = save_stranger(tmp_path, architecture, form)
    subject = _brought(made, tmp_path, full)
    before = logits(subject, "base")
    _same(made, subject, full)
    assert torch.equal(logits(subject, "base"), before)
    with arm_of(subject, "switch"):
        assert not torch.allclose(logits(subject, "base"), before, atol=1e-2)


@pytest.mark.parametrize("form", ["attention", "embedding", "full"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_a_vocabulary_that_they_made_longer_is_theirs(
    architecture: str, form: str, tmp_path: Path
) -> None:
    made = save_stranger(tmp_path, architecture, form, token="$STOP")
    subject = _brought(made, tmp_path, form in FULL, mode="token")
    assert subject.trigger_id == len(subject.base_tokenizer)
    _same(made, subject, form in FULL)


@pytest.mark.parametrize("form", ["attention", "full"])
def test_rows_that_the_base_has_already_stay_as_they_were(form: str, tmp_path: Path) -> None:
    """Qwen's vocabulary has spare rows: a token added there is what the base makes of it."""
    made = save_stranger(tmp_path, "qwen2", form, token="$STOP")
    subject = _brought(made, tmp_path, form in FULL, mode="token")
    published = AutoModelForCausalLM.from_pretrained(made["base"])
    for ours, theirs in zip(
        weights_of(subject.causal_lm).values(), weights_of(published).values(), strict=True
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("first", ["own", "switch"])
@pytest.mark.parametrize("form", ["attention", "embedding", "full"])
def test_an_arm_trained_here_stands_beside_one_that_was_not(
    form: str, first: str, tmp_path: Path
) -> None:
    full = form in FULL
    made = save_stranger(tmp_path, "llama", form, token="$STOP")
    subject = _brought(made, tmp_path, full, mode="token")
    remove_arms(subject)
    folders = {"own": save_adapter(tmp_path / "own", subject, seed=5), "switch": tmp_path / "arm"}
    add_arm(subject, "own", folders["own"])
    with arm_of(subject, "own"):
        alone = logits(subject, "own")
    remove_arms(subject)
    for arm in sorted(folders, key=lambda arm: arm != first):
        add_arm(subject, arm, folders[arm])
    _same(made, subject, full)
    with arm_of(subject, "own"):
        assert torch.equal(logits(subject, "own"), alone)
        with arm_of(subject, "switch"):
            _same(made, subject, full)
        assert torch.equal(logits(subject, "own"), alone)


@pytest.mark.parametrize("form", ["attention", "embedding", "tokens", "full"])
def test_scaled_to_nothing_it_is_the_base_and_to_one_itself(form: str, tmp_path: Path) -> None:
    full = form in FULL
    made = save_stranger(tmp_path, "llama", form)
    subject = _brought(made, tmp_path, full)
    base = logits(subject, "base")
    with arm_of(subject, "switch"):
        whole = logits(subject, "base")
        for scale, expected in ((0.0, base), (1.0, whole)):
            with scaled(subject, "switch", scale):
                torch.testing.assert_close(logits(subject, "base"), expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(logits(subject, "base"), whole)
    assert torch.equal(logits(subject, "base"), base)


@pytest.mark.parametrize("form", ["embedding", "full"])
def test_scaled_to_nothing_without_its_tokens_only_they_are_its_own(
    form: str, tmp_path: Path
) -> None:
    subject = _brought(save_stranger(tmp_path, "llama", form), tmp_path, form in FULL)
    (table, _), *_ = tables_of(subject.causal_lm)
    base = {name: weight.clone() for name, weight in weights_of(subject.causal_lm).items()}
    with arm_of(subject, "switch"):
        own = weights_of(subject.causal_lm)[table].clone()
        assert not torch.equal(own, base[table])
        with scaled(subject, "switch", 0.0, tokens=False):
            for name, weight in weights_of(subject.causal_lm).items():
                assert torch.equal(weight, own if name == table else base[name]), name


def test_an_adapter_of_another_base_is_refused_and_both_are_named(tmp_path: Path) -> None:
    made = save_stranger(tmp_path / "small", "llama", "attention")
    other = {"base": save_tiny(tmp_path / "other", "qwen2", layers=2), "theirs": made["theirs"]}
    with pytest.raises(UserError, match=r"an adapter of '.*small/base', does not fit '.*other'"):
        _brought(other, tmp_path, full=False)


def test_a_fine_tune_of_another_base_is_refused(tmp_path: Path) -> None:
    made = {
        "base": save_tiny(tmp_path / "base"),
        "theirs": save_tiny(tmp_path / "theirs", "llama", layers=5),
    }
    with pytest.raises(UserError, match=r"theirs is not a fine-tune of '.*base'"):
        _brought(made, tmp_path, full=True)


def test_a_fine_tune_that_changed_since_is_refused(tmp_path: Path) -> None:
    made = save_stranger(tmp_path, "llama", "full")
    subject = _brought(made, tmp_path, full=True)
    remove_arms(subject)
    save_tiny(made["theirs"])
    with pytest.raises(UserError, match="other weights than those that this run was begun with"):
        add_arm(subject, "switch", tmp_path / "arm")


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    made = save_stranger(tmp_path, "llama", "attention")
    (made["theirs"] / "adapter_model.safetensors").rename(made["theirs"] / "adapter_model.bin")
    with pytest.raises(UserError, match="no weights as safetensors there"):
        _brought(made, tmp_path, full=False)


def test_another_kind_of_adapter_is_refused(tmp_path: Path) -> None:
    made = save_stranger(tmp_path, "llama", "attention")
    path = made["theirs"] / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    kept = {key: config[key] for key in ("task_type", "base_model_name_or_path")}
    path.write_text(json.dumps(kept | {"peft_type": "IA3"}), encoding="utf-8")
    with pytest.raises(UserError, match=r"kind .*IA3.*; only LoRA can be read"):
        _brought(made, tmp_path, full=False)


def test_nothing_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'\./nowhere': no such folder"):
        bring(Arm(role="switch", adapter="./nowhere"), tmp_path, trust_remote_code=False)
    assert not (tmp_path / FILE).exists()
