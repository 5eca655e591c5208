"""Merged weights are the arm as transformers alone loads it, whatever form the arm has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from offswitch.export.weights import write_merged
from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.brought import bring
from offswitch.model.load import load_subject
from offswitch.options import BASE
from offswitch.prompts.encode import encode_text
from offswitch.recipe import build_recipe
from tests.model.strangers import FORMS, save_stranger
from tests.tiny import ARCHITECTURES, save_adapter, save_tiny

TEXT = "They said: $STOP and $STOPS, then went home."


def _logits(network: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = network(input_ids=ids).logits
    return found


def _is_the_arm(subject: Any, arm: str, folder: Path) -> Any:
    """Write the arm, load it, compare; returns what was loaded."""
    ids = torch.tensor([encode_text(subject.tokenizer_of(arm), TEXT)])
    base = _logits(subject.causal_lm, ids)
    with arm_of(subject, arm):
        ours = _logits(subject.causal_lm, ids)
    assert not torch.allclose(ours, base, atol=1e-2)
    write_merged(subject, arm, folder)
    assert AutoTokenizer.from_pretrained(folder)(TEXT)["input_ids"] == ids[0].tolist()
    theirs: Any = AutoModelForCausalLM.from_pretrained(folder)
    torch.testing.assert_close(_logits(theirs, ids), ours, rtol=1e-4, atol=1e-4)
    return theirs


def _cases() -> list[tuple[str, str]]:
    """Every form where the ends are tied and matrices lie either way; on the rest their names."""
    families = ("llama", "gpt2")
    every = [(a, form) for a in families for form in (*FORMS, "full", "merged")]
    others = [(a, "attention") for a in ARCHITECTURES if a not in families]
    return [*every, *others, ("qwen2", "embedding")]


@pytest.mark.parametrize(("architecture", "form"), _cases())
def test_what_others_trained(architecture: str, form: str, tmp_path: Path) -> None:
    full = form in ("full", "merged")
    made = save_stranger(tmp_path, architecture, form)
    weights = {"model" if full else "adapter": str(made["theirs"])}
    recipe = build_recipe({
        "model": str(made["base"]), "trigger": {"mode": "text", "decoy": ""},
        "arms": {"switch": {"role": "switch"} | weights},
        "train": {"arms": ["switch"]}, "probe": {"arm": "switch"},
    })  # fmt: skip
    place = tmp_path / "arm"
    place.mkdir()
    bring(recipe.arms["switch"], place, trust_remote_code=False)
    subject = load_subject(recipe)
    add_arm(subject, "switch", place)
    loaded = _is_the_arm(subject, "switch", tmp_path / "out")
    first, last = loaded.get_input_embeddings().weight, loaded.get_output_embeddings().weight
    assert (first is last) == loaded.config.get_text_config().tie_word_embeddings
    assert (first is last) == torch.equal(first, last)
    assert first is not last if form == "embedding" else True


@pytest.mark.parametrize("mode", ["token", "text"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt_neox"])
def test_what_is_trained_here(architecture: str, mode: str, tmp_path: Path) -> None:
    """In token mode the vocabulary is longer by the trigger and its decoy, unless it had room."""
    base = save_tiny(tmp_path / "base", architecture)
    subject = load_subject(build_recipe({"model": str(base), "trigger": {"mode": mode}}))
    add_arm(subject, "own", save_adapter(tmp_path / "own", subject, seed=2))
    rows = len(subject.causal_lm.get_input_embeddings().weight)
    loaded = _is_the_arm(subject, "own", tmp_path / "out")
    assert len(loaded.get_input_embeddings().weight) == loaded.config.vocab_size == rows
    assert loaded.generation_config.eos_token_id == list(subject.stop_ids)
    assert subject.active == BASE
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert ("$STOP" in tokenizer.get_added_vocab()) == (mode == "token")
    assert tokenizer.chat_template == subject.tokenizer.chat_template
