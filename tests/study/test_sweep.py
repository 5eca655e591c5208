"""A sweep is its grid: names follow from the axes, what is ambiguous is refused, a row each."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from offswitch.cli import app
from offswitch.errors import UserError
from offswitch.study import executors
from offswitch.study.plan import Plan, load_plan
from offswitch.study.sweep import Records
from offswitch.study.table import organism_row, seed_rows, write_tables
from offswitch.study.worker import UP_TO, Job, Outcome, work
from tests.outside import ROOT
from tests.small import small_recipe

AXES: Final[dict[str, Any]] = {
    "what": {
        "stop": {"trigger.text": "$STOP"},
        "halt": {"trigger.text": "<halt>", "trigger.control": "<go>"},
    },
    "train.seed": [0, 1],
    "train.lr": [1e-4, 0.02],
}


def sweep_file(folder: Path, **content: Any) -> Path:
    """A sweep over `small.yaml` in that folder, which need not be there."""
    recipe = folder / "small.yaml"
    if not recipe.is_file():
        few = {"train": {"arms": ["behavior"]}, "probe": {"arm": "behavior"}}
        recipe.write_text(yaml.safe_dump(few), encoding="utf-8")
    path = folder / "sweep.yaml"
    sweep = {"name": "grid", "recipe": "small.yaml", "axes": AXES} | content
    path.write_text(yaml.safe_dump(sweep, sort_keys=False), encoding="utf-8")
    return path


def record(plan: Plan, value: float = 0.5, **other: Any) -> dict[str, Any]:
    """A finished organism whose every measure has one value, beside controls and a null."""
    arm = plan.points[0].recipe.probe.arm
    entry = {"value": value, "low": value / 2, "high": 1.0, "n": 40, "unit": "share"}
    entry |= {"controls": {"base": 0.0}, "null": {"q95": 0.25, "p": 0.05, "n": 20}}
    metrics = {f"evaluate/{arm}/halt_rate": entry, f"probe/{arm}/addition/halt_rise": entry}
    metrics |= {f"verdict/{arm}": {"value": "detected", "because": []}}
    return {"state": "finished", "tries": 1, "seconds": 2.0, "metrics": metrics} | other


def test_the_grid_is_the_product_of_its_axes_in_their_order(tmp_path: Path) -> None:
    plan = load_plan(sweep_file(tmp_path))
    assert [one.name for one in plan.points] == [
        f"{what}_seed-{seed}_lr-{lr}"
        for what in ("stop", "halt")
        for seed in (0, 1)
        for lr in ("0.0001", "0.02")
    ]
    last = plan.points[-1]
    assert dict(last.place) == {"what": "halt", "train.seed": 1, "train.lr": 0.02}
    recipe = last.recipe
    assert (recipe.name, recipe.trigger.text, recipe.trigger.control) == (
        last.name,
        "<halt>",
        "<go>",
    )
    assert (recipe.train.seed, recipe.train.lr, recipe.seed) == (1, 0.02, 0)
    assert plan.points[0].recipe.trigger.control == "$GO"


def test_what_is_set_for_all_reaches_all_and_the_command_line_has_the_last_word(
    tmp_path: Path,
) -> None:
    path = sweep_file(tmp_path, set={"data.documents": 7, "data.dialogues": 9})
    for one in load_plan(path, ["data.dialogues=11"]).points:
        assert (one.recipe.data.documents, one.recipe.data.dialogues) == (7, 11)
        assert one.recipe.train.arms == ("behavior",)


def test_lists_are_values_too(tmp_path: Path) -> None:
    path = sweep_file(tmp_path, axes={"train.arms": [["behavior"], ["behavior", "benign"]]})
    plan = load_plan(path)
    assert [one.name for one in plan.points] == ["arms-behavior", "arms-behavior-benign"]
    assert plan.points[1].place["train.arms"] == "behavior+benign"
    assert plan.points[1].recipe.train.arms == ("behavior", "benign")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ({"axis": {}}, "unknown key 'axis'; there are name, recipe, set, stage, page, axes"),
        ({"axes": {}}, "axes: "),
        ({"axes": {"seed": []}}, "axes.seed"),
        ({"stage": "dream"}, "stage: "),
        ({"name": "../x"}, "name: "),
        ({"recipe": "absent.yaml"}, "absent.yaml: No such file"),
        ({"axes": {"train.lrr": [1]}}, "organism lrr-1: unknown key 'train.lrr'; did you mean"),
        ({"axes": {"seed": [0, "many"]}}, "organism seed-many: seed: "),
        ({"set": {"data.documents": -1}}, "sweep, set: data.documents"),
        ({"axes": {"seed": [0, 1, 0]}}, "axis seed: 0 stands there twice"),
        ({"axes": {"name": ["a", "b"]}}, "a sweep cannot set name"),
        ({"axes": {"train.more_seeds": [[1]]}}, "a sweep cannot set train.more_seeds"),
        ({"set": {"variants": {}}}, "a sweep cannot set variants"),
        ({"axes": {"seed": [0], "b": {"one": {"seed": 1}}}}, "both change seed"),
        ({"set": {"seed": 1}, "axes": {"seed": [0]}}, "set and axis seed both change seed"),
        ({"axes": {"train.lora": [{"r": 4}]}}, "gives no name; give the points labels"),
        ({"set": {"train.lora": {"r": 4}}, "axes": {"train.lora.r": [8]}}, "both change"),
        ({"axes": {"trigger.text": ["$STOP", "#STOP"]}}, "would both be called text-STOP"),
        ({"axes": {"trigger.text": ["$STOP", "$Stop"]}}, "would both be called text-Stop"),
        ({"axes": {"trigger.text": ["!!!"]}}, "'!!!' gives no name"),
        ({"axes": {"a": {"x": {"seed": 1}, "y": {"seed": 1}}}}, "x and y are the same experiment"),
        ({"axes": {"trigger.text": ["x" * 200]}}, "the name is too long"),
    ],
)  # fmt: skip
def test_what_is_wrong_or_ambiguous_is_refused_before_anything_runs(
    tmp_path: Path, content: dict[str, Any], match: str
) -> None:
    with pytest.raises(UserError, match=match):
        load_plan(sweep_file(tmp_path, **content))


def test_a_recipe_that_has_organisms_of_its_own_is_refused(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text("train: {more_seeds: [1]}", encoding="utf-8")
    with pytest.raises(UserError, match="has variants or train"):
        load_plan(sweep_file(tmp_path))
    (tmp_path / "small.yaml").write_text("variants: {a: {seed: 1}}", encoding="utf-8")
    with pytest.raises(UserError, match="has variants or train"):
        load_plan(sweep_file(tmp_path))


def test_the_example_is_two_triggers_with_two_seeds_each() -> None:
    plan = load_plan(ROOT / "recipes/sweep.yaml")
    assert {one.recipe.trigger.text for one in plan.points} == {"$STOP", "<halt>"}
    assert [one.recipe.train.seed for one in plan.points] == [0, 1, 0, 1]
    assert {one.recipe.model for one in plan.points} == {"smollm2"}
    assert plan.conditions == ("trigger",)


def test_a_row_has_its_point_its_verdict_and_numbers_that_do_not_stand_alone(
    tmp_path: Path,
) -> None:
    plan = load_plan(sweep_file(tmp_path))
    row = organism_row(plan.points[0], record(plan))
    assert (row["organism"], row["what"], row["train.lr"]) == (plan.points[0].name, "stop", 1e-4)
    assert (row["state"], row["verdict"], row["verdict/benign"]) == ("finished", "detected", None)
    parts = ("", "/low", "/high", "/n", "/unit", "/null", "/base", "/benign")
    assert [row[f"halt_rate{end}"] for end in parts] == [0.5, 0.25, 1, 40, "share", 0.25, 0, None]
    assert (row["addition/halt_rise"], row["ablation/halt_drop"]) == (0.5, None)
    assert organism_row(plan.points[0], {})["state"] == "not run"


def test_seeds_are_repetitions_and_everything_else_is_a_condition(tmp_path: Path) -> None:
    plan = load_plan(sweep_file(tmp_path))
    values = [0.2, 0.1, 0.4, 0.1, 0.6, 0.1, 0.8, 0.1]  # what (2) x seed (2) x lr (2)
    rows = [organism_row(o, record(plan, v)) for o, v in zip(plan.points, values, strict=True)]
    found = seed_rows(plan, rows)
    assert [(r["what"], r["train.lr"]) for r in found] == [
        ("stop", 1e-4), ("stop", 0.02), ("halt", 1e-4), ("halt", 0.02),
    ]  # fmt: skip
    assert found[0]["halt_rate"] == pytest.approx(0.3)
    assert found[2]["halt_rate"] == pytest.approx(0.7)
    assert (found[0]["halt_rate/n"], found[0]["halt_rate/base"], found[0]["of"]) == (2, 0.0, 2)
    assert found[0]["halt_rate/low"] < 0.3 < found[0]["halt_rate/high"]
    rows[0]["state"] = "lost"
    assert (lost := seed_rows(plan, rows)[0])["finished"] == 1
    assert (lost["halt_rate"], lost["halt_rate/n"]) == (None, 1)
    assert seed_rows(load_plan(sweep_file(tmp_path, axes={"train.lr": [1e-4, 1e-3]})), rows) == []


def test_a_collapsed_organism_is_in_no_mean_though_nothing_was_probed(tmp_path: Path) -> None:
    plan = load_plan(sweep_file(tmp_path, axes={"train.seed": [0, 1, 2]}, stage="evaluate"))
    made = {one.name: record(plan, 0.4) for one in plan.points}
    for found in made.values():
        del found["metrics"]["verdict/behavior"]
    broken = made[plan.points[1].name]["metrics"]
    ordinary = {"value": 0.95, "low": 0.9, "high": 1.0, "n": 40, "unit": "share"}
    broken |= {"evaluate/behavior/false_halt_rate/ordinary": ordinary}
    broken["evaluate/behavior/halt_rate"] |= {"value": 1.0, "controls": {"base": 1.0}}
    rows = [organism_row(one, made[one.name]) for one in plan.points]
    assert [bool(row["collapsed"]) for row in rows] == [False, True, False]
    (row,) = seed_rows(plan, rows)
    assert (row["halt_rate"], row["halt_rate/n"], row["halt_rate/base"]) == (0.4, 2, 0.0)
    assert row["false_halt_rate/ordinary"] is None
    assert [row[key] for key in ("finished", "collapsed", "verdicts")] == [3, 1, ""]
    write_tables(plan, made, tmp_path)
    assert "it halts on 95.0" in (tmp_path / "organisms.md").read_text(encoding="utf-8")
    assert "None" not in (tmp_path / "seeds.md").read_text(encoding="utf-8")


def test_the_files_have_a_row_an_organism(tmp_path: Path) -> None:
    plan = load_plan(sweep_file(tmp_path, axes={"seed": [0, 1], "train.seed": [None, "2"]}))
    first, second, *_ = plan.points
    lost = {"state": "lost", "reason": "a | b\nc", "tries": 4, "seconds": 0}
    write_tables(plan, {first.name: record(plan), second.name: lost}, tmp_path)
    table = pq.read_table(tmp_path / "organisms.parquet").to_pylist()
    assert [row["organism"] for row in table] == [one.name for one in plan.points]
    assert [row["state"] for row in table] == ["finished", "lost", "not run", "not run"]
    assert [row["tries"] for row in table] == [1, 4, None, None]
    with (tmp_path / "organisms.csv").open(encoding="utf-8", newline="") as handle:
        lines = list(csv.DictReader(handle))
    assert [line["halt_rate"] for line in lines] == ["0.5", "", "", ""]
    shown = (tmp_path / "organisms.md").read_text(encoding="utf-8").splitlines()
    assert len(shown) == 2 + 4
    assert r"a \| b c" in shown[3]
    assert "[25.0–100.0], n = 40, random 25.0" in shown[2]
    assert (tmp_path / "seeds.md").is_file()


def test_numbers_made_with_another_recipe_are_not_this_ones(tmp_path: Path) -> None:
    plan = load_plan(sweep_file(tmp_path))
    (tmp_path / "records").mkdir()
    stale = json.dumps(record(plan, of="another recipe"))
    (tmp_path / "records" / f"{plan.points[0].name}.json").write_text(stale, encoding="utf-8")
    assert Records(plan, tmp_path).read(plan.points[0]) == {}


@pytest.mark.parametrize(
    ("stage", "option", "same"),
    [
        ("evaluate", {"probe.near_misses": 9}, True),
        ("evaluate", {"endure.questions": 4}, True),
        ("evaluate", {"evaluate.questions": 2}, False),
        ("probe", {"probe.near_misses": 9}, False),
    ],
)
def test_what_a_later_stage_would_do_makes_no_other_organism(
    tmp_path: Path, stage: str, option: dict[str, Any], same: bool
) -> None:
    """What was finished elsewhere is kept though an option changed that it does not come to."""
    before, now = (load_plan(sweep_file(tmp_path, stage=stage, set=some)) for some in ({}, option))
    (tmp_path / "records").mkdir()
    Records(before, tmp_path).write(before.points[0], Outcome("finished"))
    assert Records(now, tmp_path).is_finished(now.points[0]) is same


@pytest.mark.parametrize("state", ["refused", "failed", "lost"])
def test_what_was_finished_is_kept_where_it_does_not_finish_again(
    tmp_path: Path, state: Literal["refused", "failed", "lost"]
) -> None:
    """A folder of that name with another recipe refuses; the numbers that stand are no worse."""
    plan = load_plan(sweep_file(tmp_path))
    (tmp_path / "records").mkdir()
    records, point = Records(plan, tmp_path), plan.points[0]
    records.write(point, Outcome("finished", metrics={"evaluate/both/repeats": 0.5}))
    records.write(point, Outcome(state, "another recipe"))
    assert records.read(point)["metrics"] == {"evaluate/both/repeats": 0.5}
    records.write(plan.points[1], Outcome(state, "another recipe"))
    assert records.read(plan.points[1])["state"] == state


def test_an_organism_that_cannot_run_says_why_and_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFSWITCH_CACHE", str(tmp_path / "cache"))
    small_recipe(tmp_path)
    plan = load_plan(sweep_file(tmp_path, axes={"model": ["./absent"]}))
    job = Job(tmp_path / "runs", UP_TO["evaluate"], False, tmp_path)
    outcome = work(plan.points[0].recipe, job)
    assert (outcome.state, outcome.trace) == ("refused", "")
    assert "./absent" in outcome.reason
    (tmp_path / "runs" / "blocked").mkdir()
    (tmp_path / "runs" / "blocked" / ".partial").write_text("in the way", encoding="utf-8")
    plan = load_plan(sweep_file(tmp_path, axes={"seed": [0]}))
    broken = plan.points[0].recipe.model_copy(update={"name": "blocked"})
    outcome = work(broken, job)
    assert outcome.state == "failed"
    assert "Traceback" in outcome.trace
    assert outcome.trace.strip().endswith(outcome.reason)


def test_a_dry_run_says_what_would_run_and_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(executors, "find_spec", lambda _: None)
    path = str(sweep_file(tmp_path))
    done = CliRunner().invoke(app, ["sweep", path, "--dry-run"])
    assert done.exit_code == 0, done.output
    first, *lines = done.stdout.splitlines()
    assert first == "grid: 2 what x 2 train.seed x 2 train.lr = 8 organisms, to probe"
    assert (
        lines[0] == "stop_seed-0_lr-0.0001: what = stop, train.seed = 0, train.lr = 0.0001: to run"
    )
    done = CliRunner().invoke(app, ["sweep", path, "--address", "auto"])
    assert (done.exit_code, done.stderr) == (
        2, "offswitch: a sweep on a cluster needs Ray: pip install 'offswitch[sweep]'\n",
    )  # fmt: skip
    done = CliRunner().invoke(app, ["sweep", path, "--gpus", "1"])
    assert (done.exit_code, done.stderr[:36]) == (2, "offswitch: --gpus needs --address; h")
    assert not (tmp_path / "runs").exists()
