"""A short training stage on a tiny subject, and how to kill it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from offswitch.model.rows import Example
from offswitch.model.subject import Subject
from offswitch.recipe import Recipe, build_recipe
from offswitch.train.arms import train_arm
from offswitch.train.training import StageResult, Training
from tests.tiny import tiny_subject
from tests.train.rows import examples

OPTIONS: dict[str, Any] = {
    "lr": 1e-2,
    "batch_size": 4,
    "checkpoint_steps": 2,
    "behavior": {"max_steps": 6},
    "lora": {"r": 4, "alpha": 8, "dropout": 0},
}


def recipe_of(**options: Any) -> Recipe:
    """Six steps of four rows, with some options changed."""
    return build_recipe({"train": OPTIONS | options})


def train_rows(
    folder: Path,
    rows: list[Example] | None = None,
    recipe: Recipe | None = None,
    subject: Subject | None = None,
    start: Path | None = None,
    tick: Callable[[int], None] = lambda _: None,
    kept: tuple[int, ...] = (),
    until: int | None = None,
) -> StageResult:
    """Train the rows of tests/train/rows.py, or others, and leave the adapter in the folder."""
    subject = subject or tiny_subject("llama")
    rows = rows or examples(subject, soft=True, count=8)
    scratch = folder.with_name(folder.name + "-scratch")
    recipe = recipe or recipe_of()
    training = Training("behavior", rows, recipe, folder, scratch, start, kept=kept, until=until)
    return train_arm(subject, training, tick)


def weights_in(folder: Path) -> dict[str, Tensor]:
    """The adapter's."""
    return load_file(folder / "adapter_model.safetensors")


def same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Are these the same weights to the last bit, what is not a number included?"""
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype
        and torch.equal(a[k].flatten().view(torch.uint8), b[k].flatten().view(torch.uint8))
        for k in a
    )


class Killed(Exception):
    """Stands for a kill in the middle of a stage."""


def kill_at(step: int) -> Callable[[int], None]:
    """A tick that raises `Killed` at that step."""
    done = [0]

    def tick(count: int) -> None:
        done[0] += count
        if done[0] >= step:
            raise Killed

    return tick
