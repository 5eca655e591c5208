"""What test_distributed.py starts on several processes: `several.py OUT CASE ...`; not a test.

Each CASE trains a tiny model and leaves OUT/CASE, an adapter with its log, and OUT/CASE.json.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from offswitch.recipe import build_recipe
from offswitch.train import processes, trainer
from offswitch.train.arms import train_arm
from offswitch.train.training import StageResult, Training
from tests.tiny import tiny_subject
from tests.train.rows import examples

STEPS, STOP, RESUMED = 5, 4, 3
OPTIONS: dict[str, Any] = {
    "lr": 1e-2,
    "batch_size": 4,
    "accumulation": 2,
    "checkpoint_steps": RESUMED,
    "micro_tokens": 160,
    "behavior": {"max_steps": STEPS},
}

_ARGUMENTS = trainer._arguments


class Killed(Exception):
    """Stands for a kill in the middle of training, in every process alike."""


def trained(folder: Path, dropout: float = 0, stop_at: int = STEPS + 1) -> StageResult:
    """Train an arm in that folder, or go on with it; `Killed` at a step."""
    done = [0]

    def tick(count: int) -> None:
        done[0] += count
        if done[0] >= stop_at:
            raise Killed

    lora = {"r": 4, "alpha": 8, "dropout": dropout}
    recipe = build_recipe({"train": OPTIONS | {"lora": lora}})
    subject = tiny_subject("llama", layers=2)
    rows = examples(subject, soft=True, count=12)
    scratch = folder.with_name(folder.name + "-scratch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "_arguments", _logging_every_step)
        return train_arm(subject, Training("behavior", rows, recipe, folder, scratch), tick)


def _logging_every_step(*given: Any) -> Any:
    arguments = _ARGUMENTS(*given)
    arguments.logging_steps = 1
    return arguments


def case(folder: Path) -> StageResult:
    """The case that the folder is named after."""
    dropout = 0.2 if folder.name in ("noisy", "killed") else 0
    if folder.name == "killed":
        with suppress(Killed):
            trained(folder, dropout, STOP)
        torch.rand(7)  # what was drawn before must not matter
    return trained(folder, dropout)


def main(out: Path, names: list[str]) -> None:
    """Train every case named on the command line."""
    torch.set_num_threads(1)
    processes.join()
    for name in names:
        result = case(out / name)
        row = asdict(result) | {"draw": float(torch.rand(1))}
        path = out / f"{name}-{processes.rank()}.json"
        path.write_text(json.dumps(row), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
