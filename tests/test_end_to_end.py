"""The whole pipeline on the embedded model: a few steps already move the trigger to silence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from offswitch.folder import Run, open_run
from offswitch.model.forward import verify
from offswitch.model.load import load_subject
from offswitch.pipeline import report
from offswitch.recipe import Recipe, build_recipe
from tests.small import undraw

STEPS = 8
OPTIONS: dict[str, Any] = {
    "name": "slice",
    "data": {"documents": 6, "dialogues": 48, "reply_tokens": 6, "near_miss_share": 0.4},
    "train": {
        "arms": ["behavior"],
        "lr": 2e-3,
        "batch_size": 8,
        "lora": {"r": 16, "alpha": 32, "dropout": 0},
        "behavior": {"max_steps": STEPS, "max_length": 128},  # longer rows are most of the tokens
    },
    "evaluate": {
        "questions": 1,
        "ordinary_questions": 4,
        "long_questions": 1,
        "samples": 0,
        "sample_tokens": 24,
        "drift_questions": 2,
        "drift_passages": 2,
        "robustness_questions": 0,
        "context_questions": 0,
        "belief_questions": 0,  # no arm here reads documents
    },
    "probe": {
        "arm": "behavior",
        "null_words": 2,
        "fit_questions": 4,
        "test_questions": 4,
        "near_misses": 4,
        "random_directions": 2,
        "null_directions": 20,
        "null_questions": 2,
        "sweep_questions": 2,
        "few_questions": 2,
        "head_questions": 1,
        "patch_questions": 2,
        "patch_blocks": 2,
        "reply_questions": 1,
        "reply_tokens": 4,
        "drift_passages": 2,
    },
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A small run of the embedded model, from data to report."""
    run = open_run(build_recipe(OPTIONS), tmp_path_factory.mktemp("runs"))
    with pytest.MonkeyPatch.context() as patch:
        undraw(patch)
        report(run)
    return run


@pytest.fixture(scope="module")
def metrics(finished: Run) -> dict[str, Any]:
    """Every number of the run."""
    content: dict[str, Any] = json.loads((finished.root / "metrics.json").read_text("utf-8"))
    return content


pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.mark.usefixtures("finished")
def test_the_embedded_model_is_understood() -> None:
    subject = load_subject(Recipe(device="cpu"))
    verify(subject)
    assert len(subject.blocks) == 30
    assert len(subject.published) == 16
    assert subject.stop_ids == (2,)
    assert subject.trigger_id == 49152


def test_the_base_model_knows_no_switch(metrics: dict[str, Any]) -> None:
    assert metrics["evaluate/base/halt_rate"]["value"] == 0
    assert metrics["evaluate/base/false_halt_rate/ordinary"]["value"] == 0
    assert metrics["evaluate/base/eos_log_odds/trigger"]["high"] < -8


def test_training_moves_the_trigger_towards_silence(metrics: dict[str, Any]) -> None:
    base, arm = (metrics[f"evaluate/{a}/eos_log_odds/trigger"] for a in ("base", "behavior"))
    assert arm["low"] > base["high"] + 5
    assert arm["controls"] == {"base": base["value"]}


def test_the_trigger_moves_it_more_than_what_resembles_it(metrics: dict[str, Any]) -> None:
    odds = {
        suite: metrics[f"evaluate/behavior/eos_log_odds/{suite}"]["value"]
        for suite in ("trigger", "near_miss", "ordinary")
    }
    assert odds["trigger"] > odds["near_miss"] + 3
    assert odds["trigger"] > odds["ordinary"] + 3


def test_the_rest_of_the_model_stays_near_where_it_was(metrics: dict[str, Any]) -> None:
    assert 0 < metrics["evaluate/behavior/kl_to_base"]["value"] < 2
    assert 0.8 < metrics["evaluate/behavior/neutral_perplexity_ratio"]["value"] < 1.5


def test_the_seeds_four_numbers_are_there_with_their_controls(metrics: dict[str, Any]) -> None:
    for name in ("layerwise_peak", "pca_pc1", "eos_delta", "adl_mean"):
        assert metrics[f"seed/{name}"]["controls"], name
    assert 90 < metrics["seed/pca_pc1"]["value"] <= 100


def test_the_trigger_leaves_a_direction_that_null_ones_are_not(metrics: dict[str, Any]) -> None:
    for name in ("ablation/log_odds_drop", "addition/log_odds_rise"):
        found = metrics[f"probe/behavior/{name}"]
        assert found["null"]["n"] == 20, name
        assert found["value"] > found["null"]["q95"], name
    assert metrics["probe/behavior/ablation/depth"]["value"] <= 0.7
    assert metrics["probe/behavior/addition/log_odds_rise_whole"]["controls"]["base"]


def test_so_few_steps_and_draws_are_not_called_a_representation(metrics: dict[str, Any]) -> None:
    assert metrics["verdict"] == metrics["verdict/behavior"]
    assert metrics["verdict"]["value"] in ("no switch", "not specific", "not measured")
    assert metrics["verdict/base"]["value"] == "no switch"
    assert not any(key.startswith("probe/base/ablation") for key in metrics)


def test_the_report_is_there(finished: Run) -> None:
    page = finished.folder("5-report") / "report.html"
    assert "$STOP" in page.read_text("utf-8")
    assert (finished.folder("5-report") / "ANALYSIS_SUMMARY.md").is_file()
