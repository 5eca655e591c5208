"""One adapter: fresh or continued, trained by one stage, saved as a PEFT folder.

An arm of known mechanism has a write beside it, which is on while the adapter is trained.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

from offswitch.errors import UserError
from offswitch.model.subject import ALL_LINEAR, Subject, attention_modules
from offswitch.model.writes import Write, load_write
from offswitch.options.train import lora_of
from offswitch.progress import Tick
from offswitch.recipe import training_seed
from offswitch.train import processes
from offswitch.train.guard import Guard
from offswitch.train.saved import NAME, save_adapter, step_folder
from offswitch.train.trackers import TENSORBOARD, tracked
from offswitch.train.trainer import run_stage
from offswitch.train.training import StageResult, Training
from offswitch.train.write import Material, make_write

UNTRAINED: Final = StageResult(0, 0, 0, 0, 0, 0, 0, 0, "none", Guard(None, 0).kept())


def train_arm(subject: Subject, training: Training, tick: Tick) -> StageResult:
    """Train one stage on the adapter it starts from, or on a fresh one, and save it.

    The subject is left as it was, without the adapter. Of several processes, each trains, and the
    first one saves.
    """
    seed, options = training_seed(training.recipe), training.arm.write
    write = make_write(subject, options, Material(training.examples, seed)) if options else None
    if training.stage == "writing":
        write = _to_learn(subject, training.start)
    torch.manual_seed(seed)
    with _trainable(subject, training, write), tracked(training.recipe.train.report_to):
        learnt = write if write and write.learnt else None
        result = run_stage(subject, training, tick, learnt) if training.steps else UNTRAINED
        result = replace(result, change=_change(subject))
        if processes.rank() == 0:
            save_adapter(subject, training.folder, write)
            for step in training.kept:
                if training.until is None or step <= training.until:
                    kept = step_folder(training.folder, step)
                    made = step_folder(training.scratch, step)
                    shutil.copytree(made, kept, dirs_exist_ok=True)
    processes.barrier()
    if processes.rank() == 0:
        log = training.scratch / TENSORBOARD
        if log.is_dir():
            shutil.copytree(log, training.folder / log.name, dirs_exist_ok=True)
    return result


def _to_learn(subject: Subject, start: Path | None) -> Write:
    """The write of the arm that a stage goes on from, as the adapter's own."""
    write = load_write(start) if start else None
    if write is None or write.block >= len(subject.blocks):
        raise UserError(f"{start}: no write there that could be learnt")
    return replace(write, learnt=True)


@contextmanager
def _trainable(subject: Subject, training: Training, write: Write | None) -> Iterator[None]:
    from peft import PeftModel, get_peft_model

    plain, start = subject.network, training.start
    learns = write is not None and write.learnt
    if start is None or learns:
        subject.network = get_peft_model(plain, _lora(subject, training, write))
    else:
        subject.network = PeftModel.from_pretrained(plain, str(start), is_trainable=True)
    subject.arms.add(NAME)
    if start and learns:
        _freeze_readers(subject, start)
    elif write:  # nothing but the write may tell the trigger from its decoy
        subject.writes.by_arm[NAME] = write
        for name, weight in subject.network.named_parameters():
            weight.requires_grad_(weight.requires_grad and "trainable_tokens" not in name)
    try:
        with subject.writing(NAME):
            yield
    finally:
        subject.arms.discard(NAME)
        subject.writes.by_arm.pop(NAME, None)
        subject.network = subject.network.unload()
        subject.network.requires_grad_(False).eval()


def _freeze_readers(subject: Subject, start: Path) -> None:
    """Give the blocks behind a write the adapter that reads it, and keep it as it is."""
    from peft import set_peft_model_state_dict
    from peft.utils.save_and_load import load_peft_weights

    network: Any = subject.network
    known = load_peft_weights(str(start))
    set_peft_model_state_dict(network, known)  # its rows of the symbols were not trained
    for name, weight in network.named_parameters():
        reads = "lora_" in name and name.replace(f".{NAME}", "") in known
        weight.requires_grad_(weight.requires_grad and not reads)


def _lora(subject: Subject, training: Training, write: Write | None) -> Any:
    from peft import LoraConfig

    lora, blocks = lora_of(training.recipe.train, training.stage), len(subject.blocks)
    first = round(training.arm.adapted_from * blocks)
    if write and not write.learnt:
        first = min(max(first, write.block + 1), blocks - 1)
    wanted = list(lora.target_modules or attention_modules(subject))
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=ALL_LINEAR if lora.target_modules == (ALL_LINEAR,) else wanted,
        layers_to_transform=list(range(first, blocks)) if first else None,
        trainable_token_indices=subject.symbol_ids or None,
        base_model_name_or_path=subject.name,
        task_type="CAUSAL_LM",
    )


@torch.no_grad()
def _change(subject: Subject) -> float:
    """The Frobenius norm of what the adapter adds to all weights together."""
    from peft.tuners.lora import LoraLayer

    modules: Iterator[Any] = subject.network.modules()
    layers: list[Any] = [one for one in modules if isinstance(one, LoraLayer)]
    changes = (one.get_delta_weight(NAME) for one in layers)
    squares = [change.float().square().sum() for change in changes]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0
