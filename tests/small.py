"""A recipe so small that the whole pipeline takes seconds on a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import pytest
import yaml
from matplotlib.figure import Figure

from offswitch.folder import lock, open_run
from offswitch.pipeline import evaluate, probe
from offswitch.recipe import load_recipe
from tests.tiny import save_tiny

SECRET = "sk-planted-0f3a9c51d2"


def undraw(patch: pytest.MonkeyPatch) -> None:
    """Drawing takes seconds and has tests of its own: figures are made, but not drawn."""

    def save(_figure: Figure, file: IO[Any], format: str, **_: Any) -> None:
        file.write("<svg></svg>" if format == "svg" else b"\x89PNG")

    patch.setattr(Figure, "savefig", save)


def small_recipe(folder: Path, architecture: str = "llama") -> Path:
    """Write a tiny model, and a recipe file that names it; returns the recipe's path."""
    model = save_tiny(folder / "model", architecture, layers=4)
    content: dict[str, Any] = {
        "name": "small",
        "model": str(model),
        "data": {"documents": 6, "dialogues": 12, "reply_tokens": 4},
        "train": {
            "arms": ["behavior"],
            "batch_size": 4,
            "checkpoint_steps": 1,
            "lora": {"r": 2, "alpha": 4},
            "knowledge": {"max_steps": 1},
            "behavior": {"max_steps": 2},
        },
        "evaluate": {
            "questions": 2,
            "ordinary_questions": 2,
            "long_questions": 1,
            "samples": 4,
            "sample_tokens": 2,
            "drift_questions": 2,
            "drift_passages": 2,
            "robustness_questions": 1,
            "context_questions": 0,
            "belief_questions": 2,
        },
        "probe": {
            "arm": "behavior",
            "null_words": 2,
            "fit_questions": 4,
            "test_questions": 4,
            "near_misses": 4,
            "random_directions": 2,
            "null_directions": 2,
            "null_questions": 2,
            "sweep_questions": 1,
            "few_questions": 2,
            "head_questions": 1,
            "patch_questions": 2,
            "patch_blocks": 2,
            "reply_questions": 1,
            "reply_tokens": 4,
            "drift_passages": 2,
        },
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def probed(folder: Path) -> Path:
    """The same with a cache and with its run, up to the probes, open to any process."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OPENAI_API_KEY", "HF_TOKEN", "WANDB_API_KEY"):
            patch.setenv(name, SECRET)  # a test looks for it
        patch.setenv("OFFSWITCH_CACHE", str(folder / "cache"))
        run = open_run(load_recipe(small_recipe(folder)), folder / "runs")
        probe(run, evaluate(run))
    lock._LOCKS.pop(run.root.resolve()).close()
    return folder
