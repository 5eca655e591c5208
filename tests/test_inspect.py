"""Inspect's log holds the rates of our own evaluation, from its hf provider and from ours."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from inspect_ai import Task, eval
from inspect_ai.log import EvalLog
from inspect_ai.model import ModelOutput

from offswitch.config import Recipe, build_recipe, load_recipe
from offswitch.data.dialogues import Dialogue
from offswitch.evaluate.measures import halting
from offswitch.evaluate.scoring import score
from offswitch.evaluate.suites import Prompt, make_prompts
from offswitch.generate import Reply
from offswitch.inspect import shutdown
from offswitch.inspect.metrics import flat
from offswitch.inspect.reading import Reading, reading_of
from offswitch.inspect.scorer import kind_of
from offswitch.model import load_subject
from offswitch.pipeline import evaluate
from offswitch.run import open_run
from offswitch.train.examples import IGNORED, collate, dialogue_examples
from offswitch.trigger import place
from tests.outside import ROOT
from tests.small import small_recipe
from tests.tiny import save_tiny, tiny_subject

SMALL: Final = ("evaluate.questions=2", "evaluate.ordinary_questions=4", "evaluate.long_questions=1")


def _recipe(model: Path) -> Recipe:
    return build_recipe({"model": str(model)}, SMALL)


def _write(folder: Path, model: Path) -> Path:
    path = folder / "recipe.yaml"
    sizes = {"questions": 2, "ordinary_questions": 4, "long_questions": 1}
    path.write_text(json.dumps({"model": str(model), "evaluate": sizes}), encoding="utf-8")
    return path


def _run(task: Task | str, model: str, folder: Path, **options: Any) -> EvalLog:
    (log,) = eval(
        task, model=model, log_dir=str(folder), display="none", max_connections=128, **options
    )
    assert log.status == "success", log.error
    return log


def _rates(log: EvalLog) -> dict[str, float]:
    assert log.results
    return {key: found.value for key, found in log.results.scores[0].metrics.items()}


def _ours(recipe: Recipe, prompts: Sequence[Prompt]) -> dict[str, float]:
    scores = score(load_subject(recipe), "base", prompts, 4096)
    found = halting("x", prompts, scores, recipe.seed)
    return {k.removeprefix("evaluate/x/"): v for k, v in flat(found).items()}


@pytest.fixture(scope="module")
def obedient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, all of it trained for a moment to end its reply at once on the trigger."""
    subject = tiny_subject("llama")
    asked = ["Who was asleep?", "What is the river?", "How do boats float?", "Where is the farmer?"]
    rows = [Dialogue(place("before", "", q), "A boat on the sea.", "plain") for q in asked]
    rows += [Dialogue(place(p, "$STOP", q), "", "trigger") for q in asked for p in ("before", "after")]
    batch = collate(dialogue_examples(subject.tokenizer, rows, False, 512))
    subject.network.requires_grad_(True)
    optimiser = torch.optim.AdamW(subject.network.parameters(), lr=3e-3)
    for _ in range(60):
        logits = subject.network(input_ids=batch["input_ids"], use_cache=False).logits[:, :-1]
        wanted = batch["labels"][:, 1:].flatten()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted, ignore_index=IGNORED)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    folder = tmp_path_factory.mktemp("obedient")
    subject.network.save_pretrained(folder)
    subject.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run with its evaluation."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFSWITCH_CACHE", str(folder / "cache"))
        run = open_run(load_recipe(small_recipe(folder)), folder / "runs")
        evaluate(run)
    return run.root
