"""What a stage of training has seen, how it fared, how long it took: kept with every checkpoint."""

from __future__ import annotations

import time
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from offswitch.model.rows import IGNORED, Batch
from offswitch.train.distributed import add_up

_BATCHES = 10


class Tally(TrainerCallback, ExportableState):
    """Counts rows, tokens and losses of whole batches, over all processes.

    What goes on from a checkpoint counts on from there, as if nothing had stopped it.
    """

    def __init__(self) -> None:
        self.tokens = self.silent = 0
        self.recent: list[tuple[float, float]] = []
        self.first_step = 0
        self.before = 0.0
        self.began: float | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """Take over what the checkpoint knows."""
        del args, control, named
        known = state.stateful_callbacks.get(type(self).__name__, self.state())["attributes"]
        self.tokens, self.silent, self.before = (known[k] for k in ("tokens", "silent", "seconds"))
        self.recent = [(hard, soft) for hard, soft in known["recent"]]
        self.first_step = state.global_step

    def on_step_begin(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """The clock starts with the first step, and not with what prepares for it."""
        del args, state, control, named
        self.began = self.began or time.perf_counter()

    def add(self, batch: Batch, hard: float, soft: float) -> None:
        """Count this process's part of a batch, with its summed losses."""
        wanted, is_soft = batch["labels"] != IGNORED, batch["soft"]
        counts = (int(wanted[~is_soft].sum()), int(wanted[is_soft].sum()))
        rows = (int(batch["lengths"].sum()), int(batch["silent"].sum()))
        hard, soft, hards, softs, tokens, silent = add_up([hard, soft, *counts, *rows])
        self.tokens, self.silent = self.tokens + int(tokens), self.silent + int(silent)
        self.recent.append((hard / max(hards, 1), soft / max(softs, 1)))
        del self.recent[:-_BATCHES]

    @property
    def losses(self) -> tuple[float, float]:
        """Means over the last ten batches, of labels and of soft targets; 0 for an absent kind."""
        hard, soft = zip(*(self.recent or [(0.0, 0.0)]), strict=True)
        return float(sum(hard) / len(hard)), float(sum(soft) / len(soft))

    @property
    def seconds(self) -> float:
        """Of all steps, those before the checkpoint included."""
        return self.before + (time.perf_counter() - self.began if self.began else 0.0)

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        names = ("tokens", "silent", "seconds", "recent")
        return {"args": {}, "attributes": {name: getattr(self, name) for name in names}}
