"""Adapters as PEFT folders: the one at the end, and those that are kept on the way."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from offswitch.files import mark
from offswitch.model.subject import Subject
from offswitch.model.writes import Write, save_write
from offswitch.train import processes

NAME = "default"  # PEFT's, of the one adapter that is trained


def save_adapter(subject: Subject, folder: Path, write: Write | None = None) -> None:
    """The adapter that is being trained, its tokenizer, and the write beside it."""
    config = subject.network.peft_config[NAME]
    config.base_model_name_or_path = subject.name
    subject.network.save_pretrained(str(folder), save_embedding_layers=False)
    subject.tokenizer.save_pretrained(str(folder))
    if write:
        save_write(write, folder)


def step_folder(folder: Path, step: int) -> Path:
    """Where the adapter of a step is kept."""
    return folder / f"step-{step}"


class Kept(TrainerCallback):
    """Saves the adapter after some of the steps; each folder appears whole.

    After the step `until`, if there is one, training ends with a checkpoint to go on from.
    """

    def __init__(
        self, subject: Subject, folder: Path, steps: Sequence[int], until: int | None
    ) -> None:
        self.subject, self.folder, self.steps = subject, folder, frozenset(steps)
        self.until = until

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Step 0 is the adapter as it was."""
        if state.global_step == 0:
            self.on_step_end(args, state, control, **kwargs)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save it where this step is one of those."""
        del args, kwargs
        if self.until is not None and state.global_step >= self.until:
            control.should_save = control.should_training_stop = True
        if state.global_step not in self.steps or processes.rank() != 0:
            return
        place = step_folder(self.folder, state.global_step)
        begun = place.with_name(f"{place.name}.new")
        for stale in (begun, place):
            shutil.rmtree(stale, ignore_errors=True)
        save_adapter(self.subject, begun)
        begun.rename(place)
        mark(place)
