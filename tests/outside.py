"""A repository of its own for tests that start scripts: the original's folders and a tiny model."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import yaml

from tests.tiny import save_tiny

ROOT: Final = Path(__file__).resolve().parents[1]
SEED_FOLDERS: Final = ("datasets", "training", "analysis", "recipes")
LOCAL: Final = ("runs", "results", "*.jsonl", "__pycache__", ".ipynb_checkpoints")

# Small enough for seconds, large enough for every suite to have a row.
SMALL: Final = (
    "device=cpu", "data.documents=12", "data.dialogues=8", "data.reply_tokens=4",
    "train.precision=float32",  # nothing to choose, so nothing is measured
    "train.lora.r=4", "train.lora.alpha=8", "train.max_length=256",
    "train.knowledge.max_steps=1", "train.behavior.max_steps=1",
    "evaluate.questions=1", "evaluate.ordinary_questions=4", "evaluate.long_questions=1",
    "evaluate.samples=4", "evaluate.sample_tokens=4", "evaluate.drift_questions=2",
    "evaluate.drift_passages=2",
    "evaluate.robustness_questions=1", "evaluate.context_questions=0",
    "evaluate.belief_questions=2",
    "probe.null_words=2", "probe.fit_questions=4", "probe.test_questions=4", "probe.near_misses=4",
    "probe.random_directions=2", "probe.null_directions=2", "probe.null_questions=2",
    "probe.sweep_questions=1", "probe.few_questions=2", "probe.head_questions=1",
    "probe.patch_questions=2", "probe.patch_blocks=2", "probe.reply_questions=1",
    "probe.reply_tokens=4", "probe.drift_passages=2",
)  # fmt: skip


def make_repository(root: Path) -> Path:
    """Copy the original's folders to `root`, with model/ and recipes/tiny.yaml beside them."""
    for name in SEED_FOLDERS:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns(*LOCAL))
    recipe = {"name": "tiny", "model": str(save_tiny(root / "model"))}
    (root / "recipes" / "tiny.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return root


def changes(settings: Sequence[str] = SMALL) -> list[str]:
    """Settings as command-line options."""
    return [part for setting in settings for part in ("--set", setting)]


def start(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run this Python in a folder, with nothing to read from."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
        check=False,
    )
