"""Several processes train what one does: same curve, same adapter; also in shares and resumed.

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

from offswitch.errors import UserError
from offswitch.model import processes
from offswitch.model.rows import collate
from offswitch.pipeline import train
from offswitch.recipe import load_recipe
from offswitch.run import open_run
from offswitch.train.distributed import own_rows
from offswitch.train.loss import split
from offswitch.train.sharding import even_parts
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
    cases = ("straight", "half", "sharded", "noisy", "killed")
    done = _launch("tests.train.several", str(folder), *cases)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["straight", "sharded"])
def test_two_processes_train_what_one_does(out: Path, name: str) -> None:
    expected, found = _curve(out / "one"), _curve(out / name)
    assert [step for step, _ in found["loss"]] == [1, 2, 3, 4, 5]
    for tag, points in expected.items():
        assert [step for step, _ in found[tag]] == [step for step, _ in points], tag
        values = [value for _, value in points]
        assert [value for _, value in found[tag]] == pytest.approx(values, rel=1e-4), tag
    assert _distance(out / name, out / "one") < 1e-4
    assert 0 < len(list((out / name).glob("*"))) == len(list((out / "one").glob("*")))


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
    monkeypatch.setenv("OFFSWITCH_CACHE", str(tmp_path / "cache"))
    path, changed = small_recipe(tmp_path), "train.lora.dropout=0"
    one = open_run(load_recipe(path, [changed]), tmp_path / "one")
    train(one)
    command = ("offswitch", "train", str(path), "--set", changed, "--runs", str(tmp_path / "two"))
    done = _launch(*command, ACCELERATE_USE_FSDP="true")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == [str(tmp_path / "two" / "small")]
    assert done.stderr.count("2-train/behavior: done") == 1
    two = tmp_path / "two" / "small"
    assert sorted(p.name for p in two.iterdir()) == sorted(p.name for p in one.root.iterdir())
    assert _distance(two / "2-train/behavior", one.folder("2-train/behavior")) < 1e-4
    texts = [(root / "2-train/behavior/training.json").read_text() for root in (two, one.root)]
    ours, theirs = (json.loads(text) for text in texts)
    assert (ours["processes"], theirs["processes"]) == (2, 1)
    assert ours["tokens"] == theirs["tokens"]


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")


@pytest.mark.usefixtures("second_of_two")
def test_a_process_takes_its_rows_with_the_weights_of_the_whole_batch() -> None:
    batch = collate(examples(tiny_subject("llama"), soft=True, count=6))
    own = own_rows(batch, 64)
    assert torch.equal(own["weights"], batch["weights"][3:])
    assert torch.equal(own["input_ids"], batch["input_ids"][3:])
    assert 0 < float(own["weights"].sum()) < 1
    assert int(own["prefix"]) == int(batch["prefix"]) > 0


@pytest.mark.usefixtures("second_of_two")
def test_in_shares_every_process_makes_as_many_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_SHARDED", True)
    rows = sorted(examples(tiny_subject("llama"), soft=True, count=12), key=lambda e: e.silent)
    passes, unlike = [], []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        own = own_rows(collate(rows), 96)
        parts = even_parts(own)
        passes.append((len(parts), int(own["base_passes"])))
        unlike.append((len(split(own, 96)), bool(own["soft"].any())))
        assert sum(float(part["weights"].sum()) for part in parts) == pytest.approx(
            float(own["weights"].sum())
        )
    assert passes[0] == passes[1]
    assert unlike[0] != unlike[1]


@pytest.mark.usefixtures("second_of_two")
def test_a_batch_that_cannot_be_shared_out_is_refused() -> None:
    processes.require_shares(4)
    with pytest.raises(UserError, match=r"train\.batch_size=3 .* multiple of their number, 2"):
        processes.require_shares(3)


@pytest.mark.usefixtures("second_of_two")
def test_what_is_there_in_shares_is_not_run_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny_subject("llama").network
    monkeypatch.setattr(processes, "_SHARDED", True)
    processes.require_whole(network)
    with pytest.raises(UserError, match="for training only"):
        processes.require_whole(network.to(torch.bfloat16))
