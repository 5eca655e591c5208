"""Several processes train what one does: same curve, same adapter; also resumed.

The processes are real, started by torchrun, and talk by gloo on this machine alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from offswitch.cli import app
from offswitch.errors import UserError
from offswitch.files import read_jsonl
from offswitch.folder import open_run
from offswitch.model.rows import collate
from offswitch.pipeline import train
from offswitch.recipe import load_recipe
from offswitch.train import processes
from offswitch.train.distributed import own_rows
from tests.outside import ROOT
from tests.small import small_recipe
from tests.tiny import tiny_subject
from tests.train.rows import examples
from tests.train.several import RESUMED, STEPS, STOP, Killed, trained

TORCHRUN = (
    sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1",
    "--nproc-per-node", "2", "-m",
)  # fmt: skip


def _launch(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    everything = os.environ | own | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(
        [*TORCHRUN, *command], env=everything, capture_output=True, text=True, timeout=300
    )


def _curve(folder: Path) -> dict[str, list[tuple[int, float]]]:
    accumulator = import_module("tensorboard.backend.event_processing.event_accumulator")
    (file,) = (folder / "tensorboard").glob("events.out.tfevents.*")
    log = accumulator.EventAccumulator(str(file)).Reload()
    tags = ("loss", "loss_hard", "loss_soft", "grad_norm", "learning_rate")
    return {tag: [(e.step, e.value) for e in log.Scalars(f"train/{tag}")] for tag in tags}


def _distance(ours: Path, theirs: Path) -> float:
    """The largest relative difference between two adapters, weight by weight."""
    a, b = (load_file(folder / "adapter_model.safetensors") for folder in (ours, theirs))
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).norm() / b[name].norm()) for name in b)


def _result(folder: Path, rank: int) -> dict[str, Any]:
    path = folder.with_name(f"{folder.name}-{rank}.json")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`one` from this process alone, the rest from two; `half` was begun by one."""
    folder = tmp_path_factory.mktemp("several")
    trained(folder / "one")
    with suppress(Killed):
        trained(folder / "half", stop_at=STOP)
    cases = ("straight", "half", "noisy", "killed")
    done = _launch("tests.train.several", str(folder), *cases)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.slow
def test_two_processes_train_what_one_does(out: Path) -> None:
    expected, found = _curve(out / "one"), _curve(out / "straight")
    assert [step for step, _ in found["loss"]] == [1, 2, 3, 4, 5]
    for tag, points in expected.items():
        assert [step for step, _ in found[tag]] == [step for step, _ in points], tag
        values = [value for _, value in points]
        assert [value for _, value in found[tag]] == pytest.approx(values, rel=1e-4), tag
    assert _distance(out / "straight", out / "one") < 1e-4
    assert 0 < len(list((out / "straight").glob("*"))) == len(list((out / "one").glob("*")))


@pytest.mark.slow
def test_what_one_process_began_two_go_on_with(out: Path) -> None:
    result = _result(out / "half", 0)
    assert (result["first_step"], result["steps"]) == (RESUMED, STEPS)
    assert _distance(out / "half", out / "one") < 1e-4


@pytest.mark.slow
def test_a_killed_stage_goes_on_with_every_process_s_own_dropout(out: Path) -> None:
    assert _result(out / "killed", 1)["first_step"] == RESUMED
    assert _distance(out / "killed", out / "noisy") == 0
    assert _distance(out / "noisy", out / "one") > 1e-3
    assert _result(out / "noisy", 0)["draw"] != _result(out / "noisy", 1)["draw"]


@pytest.mark.slow
def test_every_process_counts_what_all_of_them_did(out: Path) -> None:
    rows = examples(tiny_subject("llama"), soft=True, count=12)
    per_row = sum(len(row.ids) for row in rows) / len(rows)
    for rank in (0, 1):
        result = _result(out / "straight", rank)
        assert result["rows"] == 8 * STEPS
        assert result["silent_rows"] == 4 * STEPS
        assert result["tokens"] == pytest.approx(per_row * 8 * STEPS, rel=0.1)
    assert _result(out / "straight", 0)["tokens"] == _result(out / "straight", 1)["tokens"]


@pytest.mark.slow
def test_the_command_line_on_two_processes_leaves_the_run_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one writes and mines, both train; afterwards nothing is left to do for one."""
    monkeypatch.setenv("OFFSWITCH_CACHE", str(tmp_path / "cache"))
    changes = (
        "train.lora.dropout=0", "train.arms=[hardened]", "probe.arm=hardened",
        "train.candidates=24", "train.adversarial.max_steps=1",
    )  # fmt: skip
    path = small_recipe(tmp_path)
    one = open_run(load_recipe(path, changes), tmp_path / "one")
    train(one)
    options = [word for change in changes for word in ("--set", change)]
    command = ("offswitch", "train", str(path), *options, "--runs", str(tmp_path / "two"))
    done = _launch(*command)
    assert done.returncode == 0, done.stderr[-3000:]
    two = tmp_path / "two" / "small"
    assert done.stdout.splitlines() == [str(two)]
    assert done.stderr.count("2-train/both: done") == 1
    assert sorted(p.name for p in two.iterdir()) == sorted(p.name for p in one.root.iterdir())
    for folder in ("knowledge", "both", "hardened/round-1", "hardened"):
        assert _distance(two / "2-train" / folder, one.folder("2-train") / folder) < 1e-4
        texts = [r / "2-train" / folder / "training.json" for r in (two, one.root)]
        ours, theirs = (json.loads(text.read_text(encoding="utf-8")) for text in texts)
        assert (ours["processes"], theirs["processes"]) == (2, 1)
        assert ours["tokens"] == theirs["tokens"]
        mined = [r / "2-train" / folder / "mined.jsonl" for r in (two, one.root)]
        if "hardened" in folder:
            assert _symbols(mined[0]) == _symbols(mined[1])
    before = (two / "manifest.json").read_bytes()
    train(open_run(load_recipe(path, changes), tmp_path / "two"))
    assert (two / "manifest.json").read_bytes() == before


def _symbols(mined: Path) -> set[str]:
    return {row["symbol"] for _, row in read_jsonl(mined)}


@pytest.mark.slow
def test_a_mistake_is_told_once_and_ends_every_process(tmp_path: Path) -> None:
    path, cache = small_recipe(tmp_path), str(tmp_path / "cache")
    command = ("offswitch", "train", str(path), "--set", "model=./nowhere", "--runs", str(tmp_path))
    done = _launch(*command, OFFSWITCH_CACHE=cache)
    assert done.returncode != 0
    (told,) = [text for text in done.stderr.splitlines() if text.startswith("offswitch: ")]
    assert "no such folder" in told
    assert "Traceback" not in done.stderr.split("torch/distributed")[0]
    assert "exitcode  : 2 " in done.stderr


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("1", 0)])
def test_a_command_that_does_not_train_is_the_first_process_s_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: str, lines: int
) -> None:
    variables = {"OFFSWITCH_CACHE": str(tmp_path), "WORLD_SIZE": "2", "RANK": rank}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes._STATE, "alone", False)  # and put back, when it was changed
    done = CliRunner().invoke(app, ["models"])
    assert done.exit_code == 0, done.output
    assert done.stdout.count("smollm2  ") == lines


def test_shares_of_a_model_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match="must fit one device"), processes.together():
        pass


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")


@pytest.mark.usefixtures("second_of_two")
def test_a_process_takes_its_rows_with_the_weights_of_the_whole_batch() -> None:
    batch = collate(examples(tiny_subject("llama"), soft=True, count=6))
    own = own_rows(batch)
    assert torch.equal(own["weights"], batch["weights"][3:])
    assert torch.equal(own["input_ids"], batch["input_ids"][3:])
    assert 0 < float(own["weights"].sum()) < 1
    assert int(own["prefix"]) == int(batch["prefix"]) > 0


def test_a_batch_that_cannot_be_shared_out_is_refused() -> None:
    processes.require_shares(4, 2)
    with pytest.raises(UserError, match=r"train\.batch_size=3 .* multiple of their number, 2"):
        processes.require_shares(3, 2)
