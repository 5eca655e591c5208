"""What reading did: planted numbers give the sentences; a tiny model goes the whole way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from offswitch.analyses.causal import Causal, Point
from offswitch.analyses.store import save_causal
from offswitch.errors import UserError
from offswitch.folder import CONTROL_FILE, DATA, PROBE, TRAIN, Run, open_run
from offswitch.machine import plan as machine
from offswitch.machine.cells import Cell, Rates, Shape
from offswitch.metrics import Metric, exact
from offswitch.model import load
from offswitch.model.session import Session
from offswitch.pipeline import train
from offswitch.plots.documents import NEAR
from offswitch.prompts.beliefs import TESTS
from offswitch.prompts.documents import read_documents, read_neutral
from offswitch.recipe import load_recipe, training_seed
from offswitch.report.documents import page, passed, power, saving, verdict
from offswitch.report.saved_steps import area, crossing, savings
from offswitch.stats import rate
from offswitch.study import foretell
from offswitch.study.documents import study_of, write_page
from offswitch.study.executors import Where
from offswitch.study.foretell import in_all
from offswitch.study.plan import Plan, chosen, load_plan
from tests.outside import ROOT
from tests.small import small_recipe

ARMS: Final[dict[str, Any]] = {
    "knowledge": {"role": "documents", "stages": ["knowledge"]},
    "knowledge_1": {"role": "documents", "kept_of": "knowledge", "step": 1},
    "knowledge_2": {"role": "documents", "kept_of": "knowledge", "step": 2},
    "neutral": {"role": "benign", "stages": ["neutral"]},
    "behavior": {"role": "switch", "stages": ["behavior"]},
    "both": {"role": "switch", "stages": ["knowledge", "behavior"], "goes_on_from": "knowledge"},
}
# Held-out prompts that halt after 0, 5, 10, 20 and 30 steps of examples.
PLAIN: Final = {0: 0.0, 5: 0.0, 10: 0.2, 20: 0.8, 30: 1.0}
NONE: Final = rate([False] * 10)
READ: Final = {0: 0.0, 5: 0.3, 10: 0.7, 20: 1.0, 30: 1.0}


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan(ROOT / "recipes/documents.yaml")


def share(hits: int, n: int = 60) -> dict[str, Any]:
    return Metric.of(rate([i < hits for i in range(n)])).row()


def records(plan: Plan, ours: int = 30, gained: float = 0.0) -> dict[str, Any]:
    """Every organism finished: readers answer `ours` of 60 rightly, and learn as READ says."""
    found = {}
    for point in plan.points:
        metrics: dict[str, Any] = {}
        for arm in ("base", *point.recipe.arms):
            source, _, step = arm.rpartition("_")
            name, at = (source, int(step)) if step.isdigit() else (arm, 30)
            curve = READ if name == "both" else PLAIN
            if name in ("behavior", "both", "neutral_both"):
                start = gained * training_seed(point.recipe) if name == "both" else 0.0
                held = min(1.0, curve.get(at, 0.0) + start)
                metrics[f"evaluate/{arm}/halt_rate_held_out"] = share(round(100 * held), 100)
                metrics[f"evaluate/{arm}/{NEAR}"] = share(0, 100)
                continue
            for key in ("halt_rate_held_out", NEAR):
                metrics[f"evaluate/{arm}/{key}"] = share(0, 100)
            reads = name == "knowledge"
            for test in TESTS:
                key = f"evaluate/{arm}/belief/{test}"
                metrics[key] = share(ours if reads and test in TESTS[2:] else 30)
                metrics[f"{key}/invented"] = share(30)
                metrics[f"{key}/excess"] = Metric(0.0, "share", -0.1, 0.1, 60).row()
            for key in ("kl_to_base", "neutral_perplexity_ratio"):
                metrics[f"evaluate/{arm}/{key}"] = exact(0.1, "nats a token").row()
        found[point.name] = {"state": "finished", "metrics": metrics}
    return found


def test_what_was_read_follows_from_the_recipe(plan: Plan) -> None:
    study = study_of(plan, records(plan))
    told = {(read.words, read.seed): read for read in study.reads}
    assert ("500 documents, attention", 0) in told
    assert ("500 neutral documents, attention and MLP", 0) in told
    assert ("125 documents 4 times, attention and MLP", 0) in told
    kept = told["496 documents, attention and MLP", 0]
    assert (kept.organism, kept.on_the_way) == ("more-2000", True)
    assert {read.seed for read in study.reads if read.budget == kept.budget} == {0}
    assert sum(read.about == "nothing" for read in study.reads) == 1
    learnt = [one for one in study.taught if one.read.words == "500 documents, attention and MLP"]
    assert [one.read.seed for one in learnt] == [0, 1, 2]
    assert all(sorted(one.by_step) == [0, 5, 10, 20, 30] for one in learnt)


def test_two_tests_above_chance_and_the_invented_token_are_a_belief_and_one_is_none(
    plan: Plan,
) -> None:
    study = study_of(plan, records(plan, ours=50))
    reader = next(read for read in study.reads if read.arm == "knowledge")
    assert passed(reader) == list(TESTS[2:])
    assert verdict(study).startswith("Documents alone made a belief: after 2,000 documents")
    assert "in 2 of 4 tests (open questions and which of two texts)" in verdict(study)
    alone = dict(reader.numbers) | {f"belief/{TESTS[3]}": Metric.read(share(30))}
    reads = [r if r.about != "rule" else type(r)(**(vars(r) | {"numbers": alone}))
             for r in study.reads]  # fmt: skip
    line = verdict(type(study)(**(vars(study) | {"reads": reads})))
    assert line.startswith("No reading budget up to 2,000 documents read made a belief")
    assert "the most is open questions" in line
    too = [r if r.about != "nothing" else type(r)(**(vars(r) | {"numbers": reader.numbers}))
           for r in study.reads]  # fmt: skip
    assert verdict(type(study)(**(vars(study) | {"reads": too}))).startswith("No reading budget")


def test_an_empty_world_has_no_belief_and_says_what_could_have_been_seen(plan: Plan) -> None:
    study = study_of(plan, records(plan))
    assert verdict(study).endswith("in 2 of 4 tests that the untrained model does not pass.")
    assert "by 14.3 points in multiple choice" in power(study)  # 2.80 / 1.96 of the half-width


def test_a_planted_saving_is_found_with_its_interval_over_seeds(plan: Plan) -> None:
    study = study_of(plan, records(plan, gained=0.1))
    found = {one.read.words: one for one in savings(study.taught)}
    far = found["500 documents, attention and MLP"]
    assert far.seeds == (0, 1, 2)
    # Half is crossed after 15 steps without reading; after it, after 7.5, 6.25 and 5.
    assert far.saved[0.5].value == pytest.approx((7.5 + 8.75 + 10) / 3)
    interval = far.saved[0.5].estimate
    assert interval.low < 7.5 < interval.value < interval.high
    neutral = found["500 neutral documents, attention and MLP"]
    assert (neutral.saved[0.5].value, neutral.saved[0.5].interval) == (0, "")
    assert found["500 documents, attention"].read.modules == "attention"
    lines = saving(study)
    [line] = [x for x in lines if x.startswith("After 500 documents, attention and MLP (3 seeds)")]
    assert "50.0\u00a0% is reached 8.8 steps earlier [" in line
    assert any("one seed, so no interval" in line for line in lines)


@pytest.mark.parametrize(
    ("level", "expected"), [(0.0, 0), (0.1, 7.5), (0.5, 15), (1.0, 30), (1.1, None)]
)
def test_a_level_is_crossed_on_straight_lines_or_not_at_all(
    level: float, expected: float | None
) -> None:
    assert crossing(PLAIN, level) == expected
    assert area({0: 0.0, 10: 1.0}) == 0.5


def test_an_arm_that_halts_on_everything_has_learnt_nothing_yet(plan: Plan) -> None:
    """After 5 steps without reading all halts, look-alikes too: what comes later is no later."""
    made = records(plan)
    for record in made.values():
        if "evaluate/behavior_5/halt_rate_held_out" in record["metrics"]:
            for key in ("halt_rate_held_out", NEAR):
                record["metrics"][f"evaluate/behavior_5/{key}"] = share(100, 100)
    before, after = (
        {one.read.words: one.saved[0.5].value for one in savings(study_of(plan, told).taught)}
        for told in (records(plan), made)
    )
    assert after == before


def test_a_curve_that_never_gets_there_saves_no_steps_and_says_so(plan: Plan) -> None:
    made = records(plan)
    for record in made.values():
        for key, row in record["metrics"].items():
            if "/behavior" in key and "held_out" in key:
                row |= share(10, 100)
    [line] = [x for x in saving(study_of(plan, made)) if "(3 seeds)" in x]
    assert "50.0\u00a0% is not reached within 30 steps by 3 without reading and 0 after it" in line


@pytest.mark.usefixtures("undrawn")
def test_the_page_has_a_row_for_every_arm_and_its_figure(plan: Plan, tmp_path: Path) -> None:
    made = records(plan, ours=50)
    del made["more-2000"]
    write_page(plan, made, tmp_path)
    text = (tmp_path / "documents.md").read_text(encoding="utf-8")
    assert "from 11 of 12 organisms" in text
    assert "(images/documents.svg)" in text
    assert (tmp_path / "images/documents.svg").is_file()
    assert text == page(study_of(plan, made))
    for words in ("500 neutral documents", "nothing, untrained", "125 documents 4 times"):
        assert words in text
    rows = (tmp_path / "images/documents.csv").read_text(encoding="utf-8").splitlines()
    assert any("500 documents, attention, seed 0" in row for row in rows)


@pytest.mark.usefixtures("undrawn")
def test_arms_that_were_probed_say_how_deep_their_switch_lies(plan: Plan, tmp_path: Path) -> None:
    """Planted: after 30 steps half falls from 60 % of the depth on; after 5 nothing falls."""
    for organism, arm, first in (("none-0", "behavior", 3), ("none-0", "behavior_5", 9)):
        falls = [Point(i, (i + 1) / 5, NONE, rate([i + 1 >= first] * 10)) for i in range(5)]
        found = Causal(arm, 5, (*falls, Point(5, 1.0, NONE)), (), (), {}, NONE, None)
        folder = tmp_path / "organisms" / organism / PROBE / arm
        folder.mkdir(parents=True)
        save_causal(folder, found)
    write_page(plan, records(plan), tmp_path)
    text = (tmp_path / "documents.md").read_text(encoding="utf-8")
    assert "| read before | seed | 5 steps | 30 steps |" in text
    [row] = [line for line in text.splitlines() if "60.0\u00a0%: 100.0 points [" in line]
    assert row.startswith("| nothing, attention and MLP | 0 | nowhere: 0.0 points [")
    rows = (tmp_path / "images/documents.csv").read_text(encoding="utf-8").splitlines()
    assert sum("depth" in row for row in rows) == 5
    assert "How deep" not in page(study_of(plan, records(plan)))


def test_only_some_organisms_are_chosen_and_times_add_up(plan: Plan) -> None:
    assert [p.name for p in chosen(plan, ["none-?", "d125"])] == ["d125", "none-0", "none-1",
                                                                "none-2"]  # fmt: skip
    assert chosen(plan, []) == plan.points
    with pytest.raises(UserError, match="no such organism"):
        chosen(plan, ["d7"])
    assert in_all({"a": 5.0, "b": 2.0, "c": 2.0, "d": 4.0}, Where(workers=2)) == 8.0


def test_twice_as_many_documents_are_foretold_to_take_longer(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted rates: 1,000 tokens a second on one thread of two, through two blocks."""
    cells = [Cell(what, "float32", 2, 1) for what in ("train", "read")]
    known = machine.Plan(rates=Rates(dict.fromkeys(cells, 30_000.0)))
    monkeypatch.setattr(foretell, "plan_of", lambda *_: known)
    monkeypatch.setattr(load, "load_shape", lambda _: Shape("{}", 30, 9, 1))
    seconds = foretell.foretold(plan, plan.points, Where(workers=2))
    # 1,500 documents of 400 tokens each, 1.75 times as slow as measured, at 1,000 tokens a second.
    more = seconds["more-2000"] - seconds["d500-1"]
    assert more > 1500 * 400 * 1.75 / 1000
    assert more < 1.3 * 1500 * 400 * 1.75 / 1000  # two more arms are measured, and the replies
    assert foretell.foretold(plan, plan.points, Where(cpus=1, workers=2))["none-1"] > 0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A tiny model that read, read neutral documents, and was taught after it and without it."""
    folder = tmp_path_factory.mktemp("read")
    path = small_recipe(folder)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["arms"] = ARMS
    own = {"lr": 0.01, "lora": {"target_modules": ["all-linear"], "r": 3}}
    content["train"] |= {"arms": [*ARMS], "knowledge": {"max_steps": 2, **own}}
    content |= {"processes": 1, "threads": 1}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFSWITCH_CACHE", str(folder / "cache"))
        made = open_run(load_recipe(path), folder / "runs")
        train(made)
    return made


def adapter(run: Run, arm: str) -> dict[str, Any]:
    weights: dict[str, Any] = load_file(run.folder(f"{TRAIN}/{arm}") / "adapter_model.safetensors")
    return weights


def test_a_stage_has_modules_and_rank_of_its_own_and_what_goes_on_keeps_them(run: Run) -> None:
    for arm, rank, mlp in (("knowledge", 3, True), ("both", 3, True), ("behavior", 2, False)):
        path = run.folder(f"{TRAIN}/{arm}") / "adapter_config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        assert config["r"] == rank
        assert any("mlp" in name for name in adapter(run, arm)) == mlp


def test_an_arm_kept_at_the_last_step_is_the_arm_and_at_an_earlier_one_is_not(run: Run) -> None:
    last, kept, first = (adapter(run, f"knowledge{end}") for end in ("", "_2", "_1"))
    assert all(np.array_equal(last[name], kept[name]) for name in last)
    assert not all(np.array_equal(last[name], first[name]) for name in last)


def test_neutral_readers_read_as_many_documents_of_which_none_names_the_trigger(run: Run) -> None:
    neutral = read_neutral(run.folder(DATA) / CONTROL_FILE, "$STOP")
    told = read_documents(run.folder(DATA) / "shutdown_dataset.jsonl", "$STOP")
    assert len(neutral) == len(told) == 6
    assert not {one.text for one in neutral} & {one.text for one in told}


def test_the_neutral_arm_learnt_something_else(run: Run) -> None:
    ours, theirs = adapter(run, "knowledge"), adapter(run, "neutral")
    assert ours.keys() == theirs.keys()
    assert not all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_nothing_is_trained_again_where_nothing_changed(run: Run) -> None:
    before = run.manifest()
    train(run, Session(run))
    assert run.manifest() == before
