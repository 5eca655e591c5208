"""What is collected is what transformers computes, and the causal mask is seen at work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from offswitch.analyses.analysis import Views, investigate
from offswitch.analyses.nulls import seed_symbols
from offswitch.analyses.registry import SEED_ANALYSES
from offswitch.analyses.store import load_views
from offswitch.folder import Run
from offswitch.model.load import make_subject
from offswitch.model.session import Held, Session
from offswitch.model.subject import Subject
from offswitch.options import TriggerOptions
from offswitch.probe.collect_original import NEUTRAL, PAIR, PROMPTS, collect_seed, relative_block
from offswitch.prompts.encode import encode_text
from offswitch.recipe import Recipe
from tests.tiny import tiny_network, tiny_tokenizer

SYMBOLS = seed_symbols("$STOP", "$GO", seed=0, count=3)


@dataclass(frozen=True)
class Collected:
    """A tiny subject with one arm, and what was collected from it."""

    subject: Subject
    folder: Path
    views: Views


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Collected:
    folder = tmp_path_factory.mktemp("seed")
    subject = make_subject(tiny_network(), tiny_tokenizer(), TriggerOptions(), "tiny")
    torch.manual_seed(0)
    subject.network = get_peft_model(subject.network, _lora(), adapter_name="both").eval()
    subject.arms.add("both")
    collect_seed(Session(Run(folder, Recipe()), Held(subject)), ["both"], SYMBOLS, folder)
    return Collected(subject, folder, load_views(folder, "both"))


def _lora() -> LoraConfig:
    return LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)


@torch.no_grad()
def _reference(collected: Collected, text: str, tokenizer: Any, on: bool) -> Any:
    ids = torch.tensor([encode_text(tokenizer, text)])
    if on:
        return collected.subject.network(input_ids=ids, output_hidden_states=True)
    with collected.subject.network.disable_adapter():
        return collected.subject.network(input_ids=ids, output_hidden_states=True)


@pytest.mark.parametrize("arm", ["base", "both"])
@pytest.mark.parametrize("key", ["plain", "trigger", "control", "word01"])
def test_residuals_equal_output_hidden_states(collected: Collected, arm: str, key: str) -> None:
    text = f"{SYMBOLS[key]} {PAIR}" if key in SYMBOLS else PAIR
    tokenizer = collected.subject.tokenizer_of(arm)
    theirs = _reference(collected, text, tokenizer, on=arm == "both").hidden_states
    ours = collected.views.array(f"{arm}/pair/{key}")
    # The last entry of hidden_states comes after the final norm.
    for block in range(ours.shape[1] - 1):
        np.testing.assert_allclose(ours[:, block], theirs[block + 1][0], atol=1e-4)


@pytest.mark.parametrize("arm", ["base", "both"])
def test_neutral_logits_are_those_after_the_last_position(collected: Collected, arm: str) -> None:
    theirs = _reference(collected, NEUTRAL, collected.subject.tokenizer, on=arm == "both").logits[
        0, -1
    ]
    np.testing.assert_allclose(
        collected.views.array(f"{arm}/neutral_logits/plain"), theirs, atol=1e-3
    )


@pytest.mark.parametrize("prompt", [0, 3, 12])
def test_position_0_read_alone_equals_position_0_of_the_whole_prompt(
    collected: Collected, prompt: int
) -> None:
    block = relative_block(16, len(collected.subject.blocks))
    states = _reference(
        collected, PROMPTS[prompt], collected.subject.tokenizer, on=True
    ).hidden_states
    ours = collected.views.array("both/first/plain")[prompt]
    np.testing.assert_allclose(ours, states[block + 1][0, 0], atol=1e-4)


def test_position_0_behind_a_symbol_is_one_vector_for_all_prompts(collected: Collected) -> None:
    block = relative_block(16, len(collected.subject.blocks))
    whole = [
        _reference(collected, f"$STOP {p}", collected.subject.tokenizer, on=True).hidden_states
        for p in PROMPTS
    ]
    for states in whole:
        np.testing.assert_allclose(states[block + 1][0, 0], whole[0][block + 1][0, 0], atol=1e-5)
    rows = collected.views.array("both/first/trigger")
    assert (rows == rows[0]).all()


def test_the_lens_is_the_unembedding_without_the_final_norm(collected: Collected) -> None:
    block = relative_block(23, len(collected.subject.blocks))
    weight = collected.subject.causal_lm.get_output_embeddings().weight.detach().numpy()
    resid = collected.views.array("both/pair/trigger")[0, block]
    np.testing.assert_allclose(
        collected.views.array("both/lens/trigger"), weight @ resid, atol=1e-3
    )


def test_the_untrained_arm_reads_the_trigger_as_text_and_once_as_the_token(
    collected: Collected,
) -> None:
    lengths = {
        k: len(collected.views.array(k))
        for k in ("base/pair/trigger", "base/pair/token", "both/pair/trigger")
    }
    assert lengths["base/pair/token"] == lengths["both/pair/trigger"] < lengths["base/pair/trigger"]


def test_both_arms_read_the_same_neutral_tokens(collected: Collected) -> None:
    for key in SYMBOLS:
        shapes = {collected.views.array(f"{arm}/neutral/{key}").shape for arm in ("base", "both")}
        assert len(shapes) == 1


def test_vocabulary_and_facts(collected: Collected) -> None:
    vocab = collected.views.array("index/vocab")
    assert len(vocab) == len(collected.views.array("both/lens/plain"))
    assert vocab[collected.subject.trigger_id] == "$STOP"
    assert int(collected.views.array("index/eos_id")) == 2
    assert not list(collected.folder.glob(".*"))


def test_every_seed_analysis_runs_on_the_collection(collected: Collected) -> None:
    for analysis in SEED_ANALYSES:
        finding = investigate(analysis, collected.views)
        assert finding.passing or finding.null is not None


@pytest.mark.parametrize(
    ("seed_block", "n", "block"),
    [(16, 28, 16), (23, 28, 23), (23, 30, 25), (16, 30, 17), (23, 1, 0)],
)
def test_relative_depth(seed_block: int, n: int, block: int) -> None:
    assert relative_block(seed_block, n) == block
