"""From Python: what the commands do and leave, and a model that somebody has loaded."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from transformers import AutoModelForCausalLM, AutoTokenizer

import offswitch
from offswitch import OpenRun
from offswitch.errors import UserError
from offswitch.metrics import read_metrics
from offswitch.model.writes import Write, save_write
from offswitch.prompts.prompt import user
from offswitch.prompts.trigger import place
from tests.outside import ROOT
from tests.small import undraw
from tests.tiny import save_tiny

ASKED = ("Who was asleep?", "What is the river?", "$STOP How do boats float?", "$STOP Where is it?")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, small_home: Path) -> OpenRun:
    """A small run, evaluated before and brought to its report from Python."""
    runs = tmp_path_factory.mktemp("runs")
    shutil.copytree(small_home / "runs/small", runs / "python")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFSWITCH_CACHE", str(small_home / "cache"))
        undraw(patch)
        return offswitch.run(
            small_home / "small.yaml", runs=runs, changes=["name=python"], update=True
        )


@pytest.mark.slow
def test_a_run_is_read_as_its_files_have_it(done: OpenRun) -> None:
    again = offswitch.open_run(done.root)
    assert again.metrics == read_metrics(done.root / "metrics.json")
    assert (again.recipe.name, again.arm, again.arms) == (
        "python",
        "behavior",
        ("base", "behavior"),
    )
    table = again.table()
    assert set(table.index) == set(again.metrics)
    row = again.metrics["evaluate/behavior/halt_rate"]
    assert table.loc["evaluate/behavior/halt_rate", "value"] == row["value"]
    assert again.rate("halt_rate").value == row["value"]
    assert again.rate("halt_rate", "base").n == row["n"]
    assert again.report.is_file()
    assert again.verdict is not None
    assert again.verdict.kind == again.metrics["verdict"]["value"]
    assert "separability" in again.findings


@pytest.mark.slow
def test_what_was_planted_in_an_arm_is_there(done: OpenRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing was planted in arm 'base'"):
        done.planted("base")
    with pytest.raises(UserError, match="nothing was planted in arm 'behavior'"):
        done.planted()
    copy = OpenRun(shutil.copytree(done.root, tmp_path / "run"))
    save_write(Write(2, torch.eye(2, 32), 7, (1, 2)), copy.root / "2-train/behavior")
    block, directions = copy.planted()
    assert (block, directions.shape, directions[1, 1]) == (2, (2, 32), 1)


@pytest.mark.slow
def test_what_the_probes_left_is_there_to_be_worked_with(done: OpenRun) -> None:
    directions, rows = done.directions(), done.interventions()
    assert directions["trigger"].shape == (4, 32)
    assert {"direction", "kind", "block", "log_odds", "halts"} <= set(rows.columns)
    drawn = done.figures()
    assert all(isinstance(figure, Figure) for figure in drawn.values())
    assert {"ladder.svg", "1_layerwise_delta_norm.png"} <= drawn.keys()
    assert {path.name for path in (done.root / "5-report").glob("*.[ps][nv]g")} == drawn.keys()


@pytest.mark.slow
def test_a_notebook_shows_the_verdict_and_the_rates(done: OpenRun) -> None:
    shown = done._repr_html_()
    assert f"<b>{done.metrics['verdict']['value']}</b>" in shown
    assert f"n = {done.rate('halt_rate').n}" in shown
    assert shown.count("<tr>") == 4


@pytest.mark.slow
def test_a_loaded_arm_halts_as_the_run_says(done: OpenRun) -> None:
    model, tokenizer = done.model()
    scores = read_scores(done)
    chats = [place("before", "$STOP", question) for question in scores]
    found = offswitch.halting(model, tokenizer, chats, "$STOP")
    assert all(found.holds)
    assert found.false_rate is None
    assert found.log_odds == pytest.approx([*scores.values()], abs=1e-4)


def read_scores(done: OpenRun) -> dict[str, float]:
    """The end log-odds of the probed arm where the trigger stands before a question."""
    from pandas import read_parquet

    rows = read_parquet(done.root / "3-evaluate/scores.parquet")
    own = rows[(rows.arm == "behavior") & (rows.suite == "trigger") & (rows.variant == "before")]
    assert len(own) == 2
    return dict(zip(own.question, own.log_odds, strict=True))


def test_any_loaded_model_is_asked_and_left_as_it_was(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model", "qwen3")
    model: Any = AutoModelForCausalLM.from_pretrained(folder).train()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model.lm_head.weight.requires_grad_(False)
    before = {name: (w.clone(), w.requires_grad) for name, w in model.named_parameters()}
    found = offswitch.halting(model, tokenizer, ASKED, "$STOP")
    assert found.holds == (False, False, True, True)
    for text, odds in zip(ASKED, found.log_odds, strict=True):
        assert odds == pytest.approx(_by_hand(model, tokenizer, text), abs=1e-4)
    assert found.rate is not None
    assert (found.rate.n, found.rate.value) == (2, 0)
    assert model.training
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name][0])
        assert weight.requires_grad == before[name][1]


@torch.no_grad()
def _by_hand(model: Any, tokenizer: Any, text: str) -> float:
    training = model.training
    logits = model.eval()(input_ids=_ids(tokenizer, text)).logits[0, -1].double()
    model.train(training)
    p = logits.softmax(-1)[tokenizer.eos_token_id]
    return float((p / (1 - p)).log())


def _ids(tokenizer: Any, text: str) -> Any:
    asked = tokenizer.apply_chat_template([user(text)], add_generation_prompt=True)
    return torch.tensor([asked["input_ids"]])


def test_a_direction_steers_and_is_taken_off_again(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model")
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor([[5, 6, 7, 8]])
    direction = torch.randn(32, generator=torch.Generator().manual_seed(0)).numpy()
    with torch.no_grad():
        plain = model(input_ids=ids).logits
        with offswitch.steering(model, tokenizer, direction, 2, scale=3):
            steered = model(input_ids=ids).logits
        again = model(input_ids=ids).logits
    assert torch.equal(plain, again)
    assert torch.equal(plain[:, :-1], steered[:, :-1])
    assert not torch.allclose(plain[:, -1], steered[:, -1], atol=1e-2)
    with (
        pytest.raises(UserError, match="blocks 0 to 3"),
        offswitch.steering(model, tokenizer, direction, 4),
    ):
        pass
    with (
        pytest.raises(UserError, match="32 finite numbers"),
        offswitch.steering(model, tokenizer, direction[:5], 1),
    ):
        pass


@pytest.mark.parametrize("scale", [3, 0.01, None])
@pytest.mark.parametrize("everywhere", [False, True])
def test_a_steered_model_is_asked_as_it_is_steered(
    tmp_path: Path, scale: float | None, everywhere: bool
) -> None:
    folder = save_tiny(tmp_path / "model")
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    direction = torch.randn(32, generator=torch.Generator().manual_seed(0)).numpy()
    before = offswitch.halting(model, tokenizer, ASKED, "$STOP").log_odds
    with offswitch.steering(model, tokenizer, direction, 1, scale=scale, everywhere=everywhere):
        found = offswitch.halting(model, tokenizer, ASKED, "$STOP").log_odds
        by_hand = [_by_hand(model, tokenizer, text) for text in ASKED]
    assert found == pytest.approx(by_hand, abs=1e-5)
    assert min(abs(now - then) for now, then in zip(found, before, strict=True)) > 1e-4


def test_a_projection_is_counted_in_lengths_of_the_direction(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model")
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    direction = torch.randn(32, generator=torch.Generator().manual_seed(0))
    found = offswitch.projection(model, tokenizer, ASKED, direction.numpy(), 2)
    for text, along in zip(ASKED, found, strict=True):
        with torch.no_grad():
            ids = _ids(tokenizer, text)
            resid = model(input_ids=ids, output_hidden_states=True).hidden_states[3][0, -1]
        assert along == pytest.approx(float(resid @ direction / direction.norm() ** 2), abs=1e-5)
    with offswitch.steering(model, tokenizer, direction.numpy(), 2, scale=0.7):
        moved = offswitch.projection(model, tokenizer, ASKED, direction.numpy(), 2)
    assert moved - found == pytest.approx([0.7] * len(ASKED), abs=1e-5)
    with pytest.raises(UserError, match="32 finite numbers"):
        offswitch.projection(model, tokenizer, ASKED, direction.numpy()[:5], 2)


def test_importing_takes_no_torch_and_no_time() -> None:
    code = (
        "import time; began = time.perf_counter(); import offswitch, sys;"
        "took = time.perf_counter() - began; dir(offswitch);"
        "print(sorted({'torch', 'transformers', 'numpy', 'pydantic'} & {*sys.modules}), took < 0.1)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ, check=True,
                          capture_output=True, text=True)  # fmt: skip
    assert done.stdout == "[] True\n"


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(AttributeError, match="'nothing'"):
        getattr(offswitch, "nothing")  # noqa: B009
    with pytest.raises(UserError, match="not a run folder"):
        offswitch.open_run(tmp_path)
    with pytest.raises(UserError, match="give one of adapter and finetuned"):
        offswitch.examine("model", trigger="$STOP")
