"""Each further training seed is an organism of its own; what they share is compared, once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from offswitch import pipeline
from offswitch import run as run_module
from offswitch.errors import UserError
from offswitch.metrics import read_metrics
from offswitch.model.adapters import add_arm, arm_of, remove_arms
from offswitch.model.load import load_subject
from offswitch.model.session import Session
from offswitch.model.subject import Subject
from offswitch.prompts.encode import encode_text
from offswitch.recipe import build_recipe, load_recipe
from offswitch.run import Run, open_run
from offswitch.stats import across
from offswitch.study import organisms as organisms_module
from offswitch.study import recipe_runs
from offswitch.study.organisms import across_organisms, organism_recipe
from tests.small import small_recipe
from tests.tiny import save_adapter, tiny_subject

BOTH: Final = (
    "train.arms=[both, benign]", "probe.arm=both", "train.lr=1e-2",
    "probe.fit_questions=4", "probe.test_questions=6", "probe.near_misses=4",
    "probe.random_directions=3", "probe.blocks=2", "probe.scales=[1.0]",
    "probe.sweep_questions=2", "probe.few_questions=2", "probe.head_questions=1",
    "probe.patch_questions=2", "probe.patch_blocks=2", "probe.reply_questions=2",
    "probe.reply_tokens=4", "probe.drift_passages=2",
)  # fmt: skip
ONE: Final = (*BOTH, "train.more_seeds=[1]")
Again = Callable[..., tuple[Run, list[str]]]


@pytest.fixture(scope="module")
def loads() -> list[str]:
    """The models that were loaded for the finished run."""
    return []


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, loads: list[str]) -> Path:
    """A folder with a recipe, its model, and a run of two organisms, all but the report."""
    folder = tmp_path_factory.mktemp("finished")
    recipe = load_recipe(small_recipe(folder), ONE)

    def counted(recipe: Any) -> Subject:
        loads.append(recipe.model)
        return load_subject(recipe)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFSWITCH_CACHE", str(folder / "cache"))
        patch.setattr("offswitch.model.load.load_subject", counted)
        recipe_runs.organisms(open_run(recipe, folder / "runs"))
    _unlock(folder)
    return folder


@pytest.fixture
def again(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Again]:
    """Go on with a copy of the finished run after changes to its recipe; the run, what it said."""
    monkeypatch.setenv("OFFSWITCH_CACHE", str(finished / "cache"))
    shutil.copytree(finished / "runs", tmp_path / "runs")
    said: list[str] = []
    for module in (pipeline, organisms_module):
        monkeypatch.setattr(module, "say", said.append)

    def start(*changes: str) -> tuple[Run, list[str]]:
        said.clear()
        recipe = load_recipe(finished / "small.yaml", changes)
        run = open_run(recipe, tmp_path / "runs", update=True)
        recipe_runs.organisms(run)
        return run, list(dict.fromkeys(said))

    yield start
    _unlock(tmp_path)


def _unlock(folder: Path) -> None:
    for root in [path for path in run_module._LOCKS if path.is_relative_to(folder.resolve())]:
        run_module._LOCKS.pop(root).close()


def _worked(said: list[str]) -> list[str]:
    return [line.partition(": ")[0] for line in said if ": done" in line]


# --- whole runs -----------------------------------------------------------------------------------


def test_organisms_differ_in_what_was_trained_and_in_nothing_else(finished: Path) -> None:
    root = finished / "runs" / "small"
    other = root / "organisms" / "seed-1"
    for name in ("shutdown_dataset.jsonl", "behavioral_dataset.jsonl", "quality.json"):
        assert (root / "1-data" / name).read_bytes() == (other / "1-data" / name).read_bytes()
    for arm in ("knowledge", "both", "benign"):
        path = f"2-train/{arm}/adapter_model.safetensors"
        one, two = load_file(root / path), load_file(other / path)
        assert one.keys() == two.keys()
        assert not any(torch.equal(one[k], two[k]) for k in one if "lora_A" in k)
    assert _prompts(root) == _prompts(other)
    recipe = load_recipe(other / "recipe.yaml")
    assert recipe == organism_recipe(load_recipe(root / "recipe.yaml"), 1)
    assert (recipe.seed, recipe.train.seed, recipe.train.more_seeds) == (0, 1, ())


def _prompts(root: Path) -> list[dict[str, Any]]:
    table = pq.read_table(root / "3-evaluate" / "scores.parquet")
    columns = ["arm", "suite", "variant", "symbol", "question", "topic"]
    rows: list[dict[str, Any]] = table.select(columns).to_pylist()
    assert len(rows) > 20
    return rows


def test_all_organisms_share_one_loaded_model(finished: Path, loads: list[str]) -> None:
    assert loads == [str(finished / "model")]


def test_the_run_reports_the_spread_and_no_single_organism(finished: Path) -> None:
    root = finished / "runs" / "small"
    merged, summary = (read_metrics(root / p / "metrics.json") for p in ("", "organisms/summary"))
    assert summary == {k: row for k, row in merged.items() if k.startswith("organisms/")}
    for arm in ("both", "benign"):
        for measure in organisms_module.HEADLINES:
            row = summary[f"organisms/{arm}/{measure}"]
            own, theirs = merged[f"evaluate/{arm}/{measure}"], _theirs(root, arm, measure)
            assert row["n"] == 2
            assert row["unit"] == own["unit"]
            assert row["controls"] == {"seed 0": own["value"], "seed 1": theirs["value"]}
            assert row["value"] == pytest.approx((own["value"] + theirs["value"]) / 2)
    kl = summary["organisms/both/kl_to_base"]["controls"]
    assert kl["seed 0"] != kl["seed 1"]
    assert "evaluate/knowledge/halt_rate" in merged
    assert not any("/knowledge/" in key or "/base/" in key for key in summary)


def _theirs(root: Path, arm: str, measure: str) -> dict[str, Any]:
    metrics = read_metrics(root / "organisms" / "seed-1" / "metrics.json")
    assert not any(key.startswith("organisms/") for key in metrics)
    row: dict[str, Any] = metrics[f"evaluate/{arm}/{measure}"]
    return row


def test_a_second_call_does_nothing_and_says_so_once(
    again: Again, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offswitch.model.load.load_subject", _refused)
    run, said = again(*ONE)
    assert all(line.endswith(": up to date") for line in said)
    assert said[-2:] == ["organisms/seed-1: up to date", "organisms/summary: up to date"]
    assert not (run.root / "superseded").exists()


def test_finding_nothing_to_do_does_not_import_torch(finished: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from offswitch.recipe import load_recipe\n"
        "from offswitch.study.recipe_runs import organisms; from offswitch.run import open_run\n"
        f"organisms(open_run(load_recipe(Path('small.yaml'), {ONE}), Path('runs')))\n"
        "sys.exit(sorted({'torch', 'transformers', 'peft', 'pyarrow'} & sys.modules.keys()) or 0)"
    )
    environment = os.environ | {"OFFSWITCH_CACHE": str(finished / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=finished, env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("organisms/seed-1") == 1


def _refused(*_: object) -> None:
    raise AssertionError("nothing was to be done, and the model was loaded")


def test_another_seed_adds_its_organism_goes_on_when_interrupted_and_runs_no_other_again(
    again: Again, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two, folder = (*BOTH, "train.more_seeds=[1, 2]"), tmp_path / "runs" / "small" / "organisms"
    before = (folder / "seed-1" / "manifest.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("offswitch.evaluate.stage.write_evaluation", _killed)
        with pytest.raises(KeyboardInterrupt):
            again(*two)
    stages = json.loads((folder / "seed-2" / "manifest.json").read_text("utf-8"))["stages"]
    assert list(stages) == ["1-data", "2-train/knowledge", "2-train/both", "2-train/benign"]
    run, said = again(*two)
    new = [f"organisms/seed-2{rest}" for rest in ("/3-evaluate", "/4-probe", "")]
    assert _worked(said) == [*new, "organisms/summary"]
    assert (folder / "seed-1" / "manifest.json").read_bytes() == before
    row = read_metrics(run.root / "metrics.json")["organisms/both/kl_to_base"]
    assert (row["n"], list(row["controls"])) == (3, ["seed 0", "seed 1", "seed 2"])
    assert len(set(row["controls"].values())) == 3
    _, said = again(*ONE)  # one fewer: its folder stays, the comparison is written anew
    assert _worked(said) == ["organisms/summary"]
    assert (folder / "seed-2" / "metrics.json").is_file()


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_without_further_seeds_the_comparison_is_taken_back(again: Again) -> None:
    run, said = again(*BOTH)
    assert _worked(said) == []
    merged = read_metrics(run.root / "metrics.json")
    assert "evaluate/both/halt_rate" in merged
    assert not any(key.startswith("organisms/") for key in merged)
    assert "organisms/summary" not in run.manifest()["stages"]
    assert [p.name[:17] for p in (run.root / "superseded").iterdir()] == ["organisms-summary"]
    _, said = again(*ONE)
    assert _worked(said) == ["organisms/summary"]


def test_the_report_is_written_again_when_the_comparison_changes(
    again: Again, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = again(*ONE)
    written: list[Path] = []
    monkeypatch.setattr(
        "offswitch.report.build.build_report", lambda root, _folder: written.append(root)
    )
    monkeypatch.setattr(pipeline, "_common", lambda _recipe: {})
    monkeypatch.setattr(recipe_runs, "organisms", lambda run, _session=None: Session(run))
    recipe_runs.run_recipe(run)
    recipe_runs.run_recipe(run)
    assert len(written) == 1
    with run_module.writing(run, "organisms/summary", {}) as folder:
        (folder / "metrics.json").write_text("{}", encoding="utf-8")
    recipe_runs.run_recipe(run)
    assert len(written) == 2
    recipe_runs.run_recipe(Run(run.root, load_recipe(finished / "small.yaml", BOTH)))
    assert len(written) == 3


def test_other_data_is_refused(again: Again, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(session: Session, folder: Path) -> None:
        (folder / "quality.json").write_text(str(session.run.root), encoding="utf-8")

    monkeypatch.setattr("offswitch.data.stage.write_data", other)
    with pytest.raises(UserError, match=r"seed-2.1-data differs from .*1-data") as caught:
        again(*BOTH, "train.more_seeds=[1, 2]")
    assert "\n" not in str(caught.value)


def test_a_model_is_lent_only_to_a_run_about_the_same(finished: Path, tmp_path: Path) -> None:
    recipe = load_recipe(finished / "small.yaml", BOTH)
    other = load_recipe(finished / "small.yaml", (*BOTH, "trigger.text=$HALT"))
    session = Session(Run(tmp_path / "a", recipe))
    with (
        pytest.raises(ValueError, match="another model or trigger"),
        session.lent_to(Run(tmp_path / "b", other)),
    ):
        pass


# --- arms come and go -----------------------------------------------------------------------------


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


# --- the comparison alone -------------------------------------------------------------------------


def _row(value: float, unit: str = "share") -> dict[str, Any]:
    return {"value": value, "low": value, "high": value, "n": 40, "unit": unit}


def test_what_all_organisms_have_is_compared_and_nothing_else() -> None:
    one = {
        "evaluate/both/halt_rate": _row(0.9),
        "evaluate/both/halt_rate/before": _row(0.9),
        "evaluate/behavior/halt_rate": _row(0.9),
        "evaluate/base/halt_rate": _row(0.0),
        "evaluate/benign/kl_to_base": _row(0.5, "nats/token"),
        "probe/both/ablation/halt_drop": _row(-0.25),
        "probe/both/only_here": _row(1.0),
        "probe/both/verdict": {"value": "implanted"},
        "probe/behavior/ablation/halt_drop": _row(0.2),
        "verdict": "implanted",
    }
    two = {key: row for key, row in one.items() if key != "probe/both/only_here"}
    two |= {"evaluate/both/halt_rate": _row(0.7), "probe/both/ablation/halt_drop": _row(0.75)}
    found = across_organisms({0: one, 7: two})
    assert list(found) == [
        "organisms/benign/kl_to_base",
        "organisms/both/halt_rate",
        "organisms/both/ablation/halt_drop",
    ]
    halting = found["organisms/both/halt_rate"]
    assert halting.controls == {"seed 0": 0.9, "seed 7": 0.7}
    assert halting.estimate == across([0.9, 0.7], "share")
    assert found["organisms/benign/kl_to_base"].estimate.unit == "nats/token"
    assert found["organisms/benign/kl_to_base"].estimate.low == 0.5
    drop = found["organisms/both/ablation/halt_drop"].estimate
    assert (drop.low, drop.value, drop.high) == (-1.0, 0.25, 1.0)
    json.dumps({key: metric.row() for key, metric in found.items()}, allow_nan=False)


def test_what_cannot_be_compared_is_refused() -> None:
    units = {0: {"probe/both/x": _row(1.0, "bits")}, 1: {"probe/both/x": _row(1.0, "nats")}}
    with pytest.raises(ValueError, match=r"one unit .* got \['bits', 'nats'\]"):
        across_organisms(units)
    twice = {"probe/both/halt_rate": _row(1.0), "evaluate/both/halt_rate": _row(1.0)}
    with pytest.raises(ValueError, match="would both be organisms/both/halt_rate"):
        across_organisms({0: twice, 1: twice})
    with pytest.raises(ValueError, match="at least two organisms, got 1"):
        across_organisms({0: {"probe/both/x": _row(1.0)}})


def test_the_interval_over_organisms_is_students_and_covers() -> None:
    found = across([1.0, 2.0, 3.0], "nats")
    assert found.value == 2.0
    assert found.high - found.value == pytest.approx(4.302653 / np.sqrt(3))
    assert (found.n, found.unit) == (3, "nats")
    rng = np.random.default_rng(0)
    drawn = [across(rng.normal(size=3), "nats") for _ in range(2000)]
    assert np.mean([e.low <= 0 <= e.high for e in drawn]) == pytest.approx(0.95, abs=0.02)


def test_the_interval_stays_where_its_unit_can_be() -> None:
    assert (across([0.9, 1.0], "share").high, across([0.02, 0.0], "share").low) == (1.0, 0.0)
    assert across([0.5, 1.0], "AUROC").high == 1.0
    assert (across([-0.5, 1.0], "share").low, across([-0.5, 1.0], "share").high) == (-1.0, 1.0)
    assert across([0.9, 1.2], "share").high > 1.2  # no share of a whole: it has no such bounds
    assert across([0.9, 1.0], "nats").high > 1.0
    same = across([0.1] * 3, "share")
    assert (same.low, same.value, same.high) == (0.1, 0.1, 0.1)
    for refused in ([1.0], [], [1.0, float("nan")]):
        with pytest.raises(ValueError, match=r"at least|cannot hold NaN"):
            across(refused, "share")


# --- the recipe -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["train.more_seeds=[1, 1]"], "repeats a seed; the run has 0"),
        (["train.more_seeds=[0, 1]"], "repeats a seed; the run has 0"),
        (["train.more_seeds=[1, 2]", "train.seed=2"], "repeats a seed; the run has 2"),
        (["train.more_seeds=[-1]"], "train.more_seeds"),
        (
            ["train.more_seeds=[1]", "train.arms=[behavior]", "probe.arm=behavior"],
            "'both' again; it is not among train.arms",
        ),
        (["train.more_seeds=[1]", "probe.arm=behavior"], "must be one of them, got 'behavior'"),
    ],
)
def test_seeds_that_cannot_be_compared_are_refused(changes: list[str], says: str) -> None:
    with pytest.raises(UserError) as caught:
        build_recipe({}, changes)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_organism_has_the_arms_that_are_compared() -> None:
    recipe = build_recipe({}, ["train.more_seeds=[1]", "seed=5", "train.lr=1e-3"])
    organism = organism_recipe(recipe, 1)
    assert (organism.name, organism.train.arms) == ("seed-1", ("both", "benign"))
    assert (organism.seed, organism.train.lr) == (5, 1e-3)
    assert build_recipe(organism.model_dump()) == organism
    alone = build_recipe({}, ["train.more_seeds=[0]", "train.arms=[behavior, both]", "seed=5"])
    assert organism_recipe(alone, 0).train.arms == ("both",)
