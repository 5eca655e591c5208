"""A variant is the same experiment with one thing changed, and stands beside the run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from offswitch import pipeline
from offswitch.errors import UserError
from offswitch.folder import Run, open_run
from offswitch.metrics import read_metrics
from offswitch.model.session import Session
from offswitch.recipe import build_recipe, load_recipe, variant_of
from offswitch.report.build import build_report
from offswitch.study import stage
from tests.small import undraw

TEXT = "variants={text: {trigger.mode: text}}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("variants")


@pytest.fixture(scope="module")
def finished(folder: Path, small_home: Path) -> Run:
    """The small run, which was probed before, and its variant."""
    shutil.copytree(small_home / "runs", folder / "runs")
    recipe = load_recipe(small_home / "small.yaml", [TEXT])
    run = open_run(recipe, folder / "runs", update=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFSWITCH_CACHE", str(small_home / "cache"))
        undraw(patch)
        stage.run_recipe(run)
    return run


def test_a_variant_equals_a_run_of_its_own(
    finished: Run, small_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFSWITCH_CACHE", str(small_home / "cache"))
    alone = open_run(load_recipe(small_home / "small.yaml", ["trigger.mode=text"]), tmp_path)
    pipeline.evaluate(alone)
    own = read_metrics(alone.folder("3-evaluate") / "metrics.json")
    variant = finished.root / "variants" / "text" / "3-evaluate" / "metrics.json"
    assert read_metrics(variant) == own
    both = read_metrics(finished.root / "metrics.json")
    name = "behavior/eos_log_odds/trigger"
    assert own[f"evaluate/{name}"] != both[f"evaluate/{name}"]


def test_headlines_of_run_and_variants_stand_side_by_side(finished: Run) -> None:
    metrics = read_metrics(finished.root / "metrics.json")
    for arm in ("base", "behavior"):
        own = metrics[f"variants/own/{arm}/halt_rate"]
        evaluated = metrics[f"evaluate/{arm}/halt_rate"]
        assert {k: own[k] for k in ("value", "low", "high", "n", "unit")} == {
            k: evaluated[k] for k in ("value", "low", "high", "n", "unit")
        }
        assert f"variants/text/{arm}/false_halt_rate/near_miss" in metrics
    assert not any(k.startswith("variants/") and "/eos_log_odds" in k for k in metrics)


def test_nothing_is_done_twice_and_a_changed_variant_is_done_again(
    finished: Run, small_home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFSWITCH_CACHE", str(small_home / "cache"))
    before = finished.manifest()
    stage.run_recipe(finished)
    assert finished.manifest() == before
    changes = ["variants={text: {trigger.text: $HUSH}}"]
    other = load_recipe(small_home / "small.yaml", changes)
    changed = open_run(other, folder / "runs", update=True)
    stage.compare_variants(changed, Session(changed))
    after = changed.manifest()["stages"]
    assert after["variants/summary"]["outputs"] != before["stages"]["variants/summary"]["outputs"]
    assert after["3-evaluate"] == before["stages"]["3-evaluate"]


@pytest.mark.usefixtures("undrawn")
def test_the_report_has_a_row_an_arm_of_every_variant(finished: Run, tmp_path: Path) -> None:
    build_report(finished.root, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Taught otherwise" in page
    section = page.split('id="variants"')[1].split("</section>")[0]
    assert section.count("<th>base</th>") == section.count("<th>behavior</th>") == 2
    summary = (tmp_path / "ANALYSIS_SUMMARY.md").read_text(encoding="utf-8")
    assert "| as it is | base |" in summary


@pytest.mark.parametrize(
    ("variant", "match"),
    [
        ({"trigger.mod": "text"}, "unknown key 'trigger.mod'"),
        ({"data.documents": -1}, "data.documents"),
        ({"train": 3}, "train"),
    ],
)
def test_a_variant_that_is_no_recipe_is_refused_before_anything_runs(
    variant: dict[str, object], match: str
) -> None:
    with pytest.raises(UserError, match=match):
        build_recipe({"variants": {"odd": variant}})


def test_a_variant_trains_one_seed_and_has_no_variants() -> None:
    recipe = build_recipe(
        {"train": {"more_seeds": [1]}, "variants": {"text": {"trigger.mode": "text"}}}
    )
    variant = variant_of(recipe, "text")
    assert (variant.name, variant.trigger.mode) == ("text", "text")
    assert (variant.train.more_seeds, variant.variants) == ((), {})
