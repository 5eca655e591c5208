"""On a tiny model every measurement runs, and peers that are installed compute what we compute."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from benchmarks import collection, scaling, seed_way, training
from benchmarks.bench import Sample
from benchmarks.collection_peers import READERS, timed
from benchmarks.material import bench_recipe, read_prompts, read_training, write_prompts
from benchmarks.material import write_training as write_rows
from offswitch.model.load import load_subject
from tests.tiny import save_tiny

Job = dict[str, Any]
NEEDS = {"trl": "trl", "lens": "transformer_lens", "nnterp": "nnterp"}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A tiny model, two steps of rows and six prompts."""
    folder = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFSWITCH_CACHE", str(folder / "cache"))
        model = save_tiny(folder / "model", layers=3)
        job = {"model": str(model), "folder": str(folder), "steps": 2, "count": 6}
        write_rows(job)
        write_prompts(job)
        return job


def _skip_without(peer: str) -> None:
    package = NEEDS.get(peer.split("_")[0])
    if package and find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


@pytest.fixture(scope="module")
def our_loss(job: Job, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """What our own stage measured."""
    return training.run_peer(job | {"peer": "ours", "out": str(tmp_path_factory.mktemp("ours"))})


def test_ours_trains_and_is_measured(job: Job, our_loss: dict[str, float]) -> None:
    task = read_training(Path(job["folder"]))
    assert task.steps == 2
    assert our_loss["tokens_per_second"] == pytest.approx(task.tokens / our_loss["seconds"])
    start = training.held_out_loss(job["model"], Path(job["folder"]) / "initial", task)
    assert our_loss["loss"] < 0.99 * start


@pytest.mark.parametrize("peer", ["hugging_face", "seed", "trl_fp32", "trl_padded", "trl_flat"])
def test_peers_reach_our_loss(
    job: Job, our_loss: dict[str, float], peer: str, tmp_path: Path
) -> None:
    _skip_without(peer)
    theirs = training.run_peer(job | {"peer": peer, "out": str(tmp_path)})
    assert theirs["loss"] == pytest.approx(our_loss["loss"], rel=1e-3)


def test_needed_operations_grow_with_the_steps(job: Job) -> None:
    task = read_training(Path(job["folder"]))
    assert training.needed_operations(task, job["model"]) > 1e6


@pytest.mark.parametrize("peer", [name for name in READERS if name != "hf_single"])
def test_peers_read_the_same_residuals(job: Job, peer: str, tmp_path: Path) -> None:
    _skip_without(peer)
    if peer.startswith("nnterp"):
        pytest.skip("importing nnsight changes PyTorch for every test after it")
    subject = load_subject(bench_recipe(job["model"]))
    _, rows = read_prompts(Path(job["folder"]))
    _, expected = timed(READERS["hf_single"](subject, tmp_path), rows)
    seconds, found = timed(READERS[peer](subject, tmp_path), rows)
    assert seconds > 0
    assert found.shape == (6, 3, 32)
    assert collection.difference(found, expected) < 1e-4
    assert collection.difference(found.flip(0), expected) > 1e-2


def test_the_seeds_way_reads_what_we_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFSWITCH_CACHE", str(tmp_path / "cache"))
    # So deep that no analysis reads the last block, which the original has normed.
    model = save_tiny(tmp_path / "model", layers=10)
    job, folder = {"model": str(model), "folder": str(tmp_path)}, tmp_path
    seed_way.write_arm(job)
    for way in ("ours", "reload"):
        assert seed_way.run_way(job | {"way": way})["seconds"] > 0
    ours = load_file(folder / "ours" / "both.safetensors")
    theirs = load_file(folder / "reload.safetensors")
    assert len(ours.keys() & theirs.keys()) == 7
    assert seed_way.largest_difference(ours, theirs) < 1e-4
    moved = {key: np.roll(value, 1, 0) for key, value in ours.items()}
    assert seed_way.largest_difference(moved, theirs) > 1e-2


@pytest.mark.parametrize("work", scaling.WORK)
def test_many_prompts_are_read(job: Job, work: str, tmp_path: Path) -> None:
    scaling.write_small(job | {"folder": str(tmp_path / "small")})
    numbers = scaling.run_work(
        {"work": work, "size": 20, "model": str(tmp_path / "small"), "out": str(tmp_path / "o")}
    )
    assert numbers["prompts_per_second"] == pytest.approx(20 / numbers["seconds"])


def test_many_prompts_differ() -> None:
    prompts = scaling.many_prompts(500, "$STOP", 0)
    assert len({prompt.chat[-1]["content"] for prompt in prompts}) == 500
    assert sum(prompt.suite == "trigger" for prompt in prompts) == 250


def test_a_line_is_found_and_a_curve_is_told_from_it() -> None:
    x = [1.0, 2.0, 3.0, 4.0]
    line = scaling.fit(x, [3.0, 5.0, 7.0, 9.0])
    assert (line.slope, line.intercept, line.r2) == pytest.approx((2, 1, 1))
    assert scaling.fit(x, [1.0, 4.0, 9.0, 80.0]).r2 < 0.8


def test_growth_is_told_per_prompt() -> None:
    found = {
        f"score_{n}": [Sample({"seconds": 1 + 0.002 * n, "peak_mb": 100 + 0.001 * n})]
        for n in (100, 200, 400)
    }
    told = scaling.growth("score", (100, 200, 400), found)
    assert "2.000 ms a prompt, R2 = 1.0000" in told
    assert "+1.0 MB per 1,000 prompts" in told
    assert scaling.growth("collect", (100, 200, 400), found) == ""


def test_threads_are_left_alone() -> None:
    assert torch.get_num_threads() == 1
