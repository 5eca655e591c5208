"""The mechanism: one code path for result, null and controls, and a null that is honest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offswitch.analyses.analysis import INERT, Analysis, investigate
from offswitch.analyses.nulls import inert_words
from offswitch.analyses.original import logit_lens_delta
from offswitch.analyses.registry import SEED_ANALYSES
from offswitch.analyses.store import load_findings, load_views, save_findings
from offswitch.errors import UserError
from offswitch.prompts.look_alikes import INERT_WORDS
from tests.analyses.worlds import KEYS, SYMBOLS, calm, views

ANALYSES = pytest.mark.parametrize("analysis", SEED_ANALYSES, ids=lambda a: a.name)


@ANALYSES
def test_every_analysis_brings_its_null_and_its_controls(analysis: Analysis[Any]) -> None:
    finding = investigate(analysis, views(calm()))
    assert finding.null is not None
    assert finding.null.n == len(finding.null_results) == 20
    assert len(finding.controls) == (2 if analysis.name == "base_vs_finetuned_adl" else 3)
    assert isinstance(finding.result, analysis.gives)
    assert all(key.startswith("seed/") for key in finding.entries())
    assert finding.number.unit
    json.dumps(finding.entries(), allow_nan=False)


@ANALYSES
def test_an_analysis_reads_only_what_it_declares(analysis: Analysis[Any]) -> None:
    world = calm()
    kinds = {
        read.format(arm=arm, symbol=s)
        for read in analysis.reads
        for arm in ("base", "both", "benign")
        for s in KEYS
    }
    assert investigate(analysis, views({k: v for k, v in world.items() if k in kinds}))


@ANALYSES
def test_a_control_equal_to_the_real_thing_passes_too(analysis: Analysis[Any]) -> None:
    world = calm()
    for path in list(world):
        kind, _, key = path.partition("/")[2].partition("/")
        if key == "control":
            world[path] = world[path.replace("control", "trigger")]
        if kind.startswith("neutral") and key in ("control", "trigger"):
            world[path] = world[path.replace(key, "plain")]
    finding = investigate(analysis, views(world))
    equal = "$GO" if "$GO" in finding.controls else "$GO in front"
    assert equal in finding.passing
    assert "Proves nothing" in finding.statement


def test_a_planted_end_token_is_found_and_no_control_passes() -> None:
    world = calm()
    world["both/lens/trigger"][3] += 100
    finding = investigate(logit_lens_delta.ANALYSIS, views(world))
    assert finding.value == pytest.approx(100, abs=6)
    assert finding.null is not None
    assert finding.null.p == pytest.approx(1 / 21)
    assert finding.passing == ()
    assert finding.statement.startswith("Nothing else passes")


def test_p_is_uniform_when_the_trigger_is_itself_an_inert_word() -> None:
    found = [investigate(logit_lens_delta.ANALYSIS, views(calm(seed))).null for seed in range(200)]
    p = np.array([null.p for null in found if null is not None])
    assert p.mean() == pytest.approx(0.52, abs=0.07)
    assert (p <= 0.1).mean() == pytest.approx(2 / 21, abs=0.07)
    assert (p <= 0.5).mean() == pytest.approx(10 / 21, abs=0.12)


def test_inert_words_are_named_when_the_value_lies_among_them() -> None:
    passing = [investigate(logit_lens_delta.ANALYSIS, views(calm(s))).passing for s in range(10)]
    assert sum(INERT in names for names in passing) >= 7


def test_a_null_may_put_arrays_in_place_of_others() -> None:
    swapped = views(calm()).with_arrays({"{arm}/lens/{symbol}": np.zeros(60)})
    assert not swapped.array("both/lens/trigger").any()
    assert swapped.array("both/lens/plain").any()


def test_values_that_are_not_finite_are_refused() -> None:
    world = calm()
    world["both/lens/trigger"][0] = np.nan
    with pytest.raises(ValueError, match="both/lens/trigger"):
        investigate(logit_lens_delta.ANALYSIS, views(world))


def test_the_untrained_model_is_its_own_arm_with_fewer_controls() -> None:
    finding = investigate(logit_lens_delta.ANALYSIS, views(calm(), arm="base"))
    assert tuple(finding.controls) == ("$GO",)


def test_a_token_of_its_own_adds_the_untrained_model_with_that_token() -> None:
    world = calm()
    world["base/lens/token"] = world["both/lens/trigger"]
    seen = replace(views(world), symbols={**SYMBOLS, "token": "$STOP"})
    finding = investigate(logit_lens_delta.ANALYSIS, seen)
    assert set(finding.controls) == {"untrained", "untrained (same token)", "$GO", "untrained $GO"}


def test_findings_survive_the_disk(tmp_path: Path) -> None:
    findings = [investigate(analysis, views(calm())) for analysis in SEED_ANALYSES]
    save_findings(tmp_path / "findings.json", findings)
    assert list(load_findings(tmp_path / "findings.json", SEED_ANALYSES).values()) == findings


def test_missing_files_get_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run the probe stage first"):
        load_views(tmp_path, "both")
    with pytest.raises(UserError, match="run the probe stage first"):
        load_findings(tmp_path / "findings.json", SEED_ANALYSES)


def test_inert_words_are_distinct_chosen_by_seed_and_limited() -> None:
    assert len(set(INERT_WORDS)) == len(INERT_WORDS) >= 60
    assert inert_words(3, 20) == inert_words(3, 20) != inert_words(4, 20)
    assert len(set(inert_words(0, 20))) == 20
    with pytest.raises(ValueError, match="inert words"):
        inert_words(0, 1000)
