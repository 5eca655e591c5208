"""What test_distributed.py starts on several processes, and alone: `several.py OUT CASE ...`.

Each CASE trains a tiny model and leaves OUT/CASE with the adapter and its TensorBoard log. Not a
test itself.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch

from offswitch import processes
from offswitch.config import build_recipe
from offswitch.train import distributed
from offswitch.train.arms import train_arm
from offswitch.train.examples import Example
from offswitch.train.trainer import StageResult
from tests.tiny import tiny_subject
from tests.train.rows import examples

STEPS = 20
OPTIONS: dict[str, Any] = {
    "lr": 1e-2,
    "batch_size": 8,
    "accumulation": 2,
    "checkpoint_steps": 4,
    "micro_tokens": 96,
    "lora": {"r": 4, "alpha": 8, "dropout": 0},
}


class Killed(Exception):
    """Stands for a kill in the middle of training, in every process alike."""


def trained(folder: Path, stop_at: int = STEPS + 1, soft: bool = True) -> StageResult:
    """Train the rows that the tests have, as an arm in that folder."""

    def tick(count: int) -> None:
        done[0] += count
        if done[0] >= stop_at:
            raise Killed

    done = [0]
    subject = tiny_subject("llama")
    rows: list[Example] = examples(subject, soft, count=12)
    recipe = build_recipe({"train": OPTIONS | {"behavior": {"max_steps": STEPS}}})
    scratch = folder.with_name(folder.name + "-scratch")
    return train_arm(subject, "behavior", rows, recipe, folder, scratch, None, tick)


def case(out: Path, name: str) -> StageResult:
    """Train one case: `straight`, `hard`, `killed` (and gone on), or `half` (left for others)."""
    if name == "half":
        try:
            trained(out / name, stop_at=10)
        except Killed:
            return StageResult(10, 0, 0, 0, 0, 0, 0, 0)
    if name == "killed":
        try:
            trained(out / name, stop_at=10)
        except Killed:
            pass
    return trained(out / name, soft=name != "hard")


def main(out: Path, names: list[str]) -> None:
    """Train every case named on the command line."""
    torch.set_num_threads(1)
    if processes.count() > 1:
        distributed.start()
    for name in names:
        result = case(out, name)
        if processes.rank() == 0:
            (out / f"{name}.json").write_text(repr(result), encoding="utf-8")


if __name__ == "__main__":
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    main(Path(sys.argv[1]), sys.argv[2:])
