"""One adapter: fresh or continued, trained by one stage, saved as a PEFT folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from offswitch.model.subject import Subject, attention_modules
from offswitch.progress import Tick
from offswitch.recipe import Recipe, training_seed
from offswitch.train import processes
from offswitch.train.trainer import StageResult, Training, run_stage


def train_arm(subject: Subject, training: Training, tick: Tick) -> StageResult:
    """Train one stage on the adapter it starts from, or on a fresh one, and save it.

    The subject is left as it was, without the adapter. Of several processes, each trains, and the
    first one saves.
    """
    torch.manual_seed(training_seed(training.recipe))
    with _trainable(subject, training.recipe, training.start):
        result = replace(run_stage(subject, training, tick), change=_change(subject))
        if processes.rank() == 0:
            _save(subject, training.folder)
    processes.barrier()
    if processes.rank() == 0:
        log = training.scratch / "tensorboard"
        if log.is_dir():
            shutil.copytree(log, training.folder / log.name, dirs_exist_ok=True)
        shutil.rmtree(training.scratch, ignore_errors=True)
    return result


@contextmanager
def _trainable(subject: Subject, recipe: Recipe, start_from: Path | None) -> Iterator[None]:
    from peft import PeftModel, get_peft_model

    plain = subject.network
    if start_from is None:
        subject.network = get_peft_model(plain, _lora(subject, recipe))
    else:
        subject.network = PeftModel.from_pretrained(plain, str(start_from), is_trainable=True)
    subject.arms.add("default")
    try:
        yield
    finally:
        subject.arms.discard("default")
        subject.network = subject.network.unload()
        subject.network.requires_grad_(False).eval()


def _lora(subject: Subject, recipe: Recipe) -> Any:
    from peft import LoraConfig

    lora = recipe.train.lora
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules or attention_modules(subject)),
        trainable_token_indices=None if subject.trigger_id is None else [subject.trigger_id],
        base_model_name_or_path=subject.name,
        task_type="CAUSAL_LM",
    )


@torch.no_grad()
def _change(subject: Subject) -> float:
    """The Frobenius norm of what the adapter adds to all weights together."""
    from peft.tuners.lora import LoraLayer

    modules: Iterator[Any] = subject.network.modules()
    layers: list[Any] = [one for one in modules if isinstance(one, LoraLayer)]
    changes = (one.get_delta_weight("default") for one in layers)
    squares = [change.float().square().sum() for change in changes]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0


def _save(subject: Subject, folder: Path) -> None:
    config = subject.network.peft_config["default"]
    config.base_model_name_or_path = subject.name
    subject.network.save_pretrained(str(folder), save_embedding_layers=False)
    subject.tokenizer.save_pretrained(str(folder))
