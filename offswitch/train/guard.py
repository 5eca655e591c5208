"""Drift guard: KL to the untouched model on rows kept apart, and what training does about it.

A few answered rows are never trained on. Every few steps the mean KL(base || arm) over their reply
tokens is taken. Where it is above what is allowed, the adapter is pulled back towards the untouched
model: its effect shrinks by the square root of the excess, since KL is about quadratic in it. It
then learns more slowly by the same factor, with fresh moments, and answered rows weigh four times
as much. What is allowed begins at `EARLY` times the limit, since the first steps, in which the
switch is learned, overshoot, and falls to the limit. The rows of trigger and decoy are left
alone: hardly an answered row holds one. Known limit: a model that cannot have both is held near,
and halts less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from offswitch.model.rows import IGNORED, Example, collate
from offswitch.model.subject import Subject
from offswitch.stats import Estimate, mean
from offswitch.train.loss import batch_loss, split
from offswitch.train.teacher import States, states_of

HELD: Final = 12  # rows kept apart, and at most one answered row in SHARE
SHARE: Final = 10
EVERY: Final = 5  # steps
EARLY: Final = 8.0  # the embedded model, undisturbed: 0.37 after 5 of 28 steps, 0.04 at the end
SLOWEST, HEAVIEST = 1 / 32, 64.0
GUARDED: Final = "guarded"  # marks the optimiser's groups that are slowed down

Measure = Callable[[], Sequence[tuple[float, int]]]  # of each row: mean nats a token, tokens


def held_kl(
    subject: Subject, held: Sequence[Example], base: States, dtype: torch.dtype, tokens: int
) -> list[tuple[float, int]]:
    """KL(base || arm) of each row: mean nats a token of its reply, and how many those are."""
    batch = collate(held)
    batch = {k: v.to(subject.device) for k, v in batch.items()} | {"base": states_of(base, held)}
    training = subject.network.training
    subject.network.eval()
    found: list[tuple[float, int]] = []
    with torch.no_grad():
        for part in split(batch, tokens, padded=not subject.takes_packed):
            counts = (part["labels"] != IGNORED).sum(1).tolist()
            each = torch.split(batch_loss(subject, part, dtype).soft, counts)
            found += [(float(kl.mean()), len(kl)) for kl in each]
    subject.network.train(training)
    return found


def hold_out(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Rows to train on, and some answered ones to keep apart, evenly spread over the soft rows.

    Where questions come back, a row may stand there several times: none that is kept is trained on.
    """
    soft = list({one.ids: one for one in examples if one.soft}.values())
    count = min(HELD, len(soft) // SHARE)
    held = [soft[i * len(soft) // count] for i in range(count)]
    apart = {one.ids for one in held}
    return [one for one in examples if one.ids not in apart], held


@dataclass(frozen=True)
class Kept:
    """What the guard saw: (step, nats a token) in order, and how far it had to slow training."""

    curve: tuple[tuple[int, float], ...]
    last: Estimate | None
    rate: float
    weight: float
    limit: float | None
    rows: int

    @property
    def failed(self) -> bool:
        """Did training end further from the untouched model than was allowed?"""
        if self.limit is None or self.last is None:
            return False
        return self.last.value > self.limit

    def told(self) -> str:
        """Where it ended and what was done, in one line."""
        assert self.last is not None
        far = self.last
        told = (
            f"{far.value:.3f} nats a token [{far.low:.3f}, {far.high:.3f}] from the untouched"
            f" model, on {self.rows} answered rows kept apart"
        )
        slowed = f", slowed to {self.rate:.2g} of its rate on the way" if self.rate < 1 else ""
        if not self.failed:
            return f"{told}{slowed}"
        return f"{told}: more than train.max_drift={self.limit:g}{slowed or ', too late to slow'}"


class Guard(TrainerCallback, ExportableState):
    """Measures drift while Trainer trains; steers the learning rate and the soft rows' weight."""

    def __init__(self, limit: float | None, seed: int) -> None:
        self.measure: Measure | None = None
        self.limit, self.seed = limit, seed
        self.rate = self.weight = 1.0
        self.curve: list[tuple[int, float]] = []
        self.last: Estimate | None = None
        self.rows = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """A training that goes on from a checkpoint goes on as slowly as it was."""
        del args, control, named
        known = state.stateful_callbacks.get(type(self).__name__, self.state())["attributes"]
        self.rate, self.weight, self.curve = known["rate"], known["weight"], [*known["curve"]]

    def on_step_begin(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """The schedule sets every rate at every step; the guarded ones are then scaled."""
        del args, state, control
        for group in named["optimizer"].param_groups:
            group["lr"] *= self.rate if group.get(GUARDED) else 1.0

    def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """Every few steps: how far is the arm, and must it slow down?"""
        del args, control
        step, steps = state.global_step, state.max_steps
        if self.measure is None or step % EVERY or step == steps:
            return
        kl = self._look(step).value
        if self.limit is not None and kl > (most := allowed(self.limit, step / steps)):
            scale = (most / kl) ** 0.5
            self.rate = max(self.rate * scale, SLOWEST)
            self.weight = min(self.weight * 4, HEAVIEST)
            _pull_back(named["model"], named["optimizer"], scale)

    def on_train_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """Where did it end?"""
        del args, control, named
        if self.measure is not None:
            self.last = self._look(state.global_step)

    def _look(self, step: int) -> Estimate:
        assert self.measure is not None
        kl, tokens = zip(*self.measure(), strict=True)
        self.rows = len(kl)
        rows = np.repeat(np.arange(len(kl)), tokens)
        found = mean(np.repeat(kl, tokens), "nats a token", seed=self.seed, groups=rows)
        self.curve.append((step, found.value))
        return found

    def kept(self) -> Kept:
        """What was seen and done."""
        curve = tuple((step, value) for step, value in self.curve)
        return Kept(curve, self.last, self.rate, self.weight, self.limit, self.rows)

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        return {
            "args": {},
            "attributes": {"rate": self.rate, "weight": self.weight, "curve": self.curve},
        }


@torch.no_grad()
def _pull_back(model: torch.nn.Module, optimizer: Any, scale: float) -> None:
    """Let the adapter's products count `scale` times; the optimiser forgets where they were."""
    for name, weight in model.named_parameters():
        if weight.requires_grad and ("lora_B" in name or "lora_embedding_B" in name):
            weight.mul_(scale)
    for group in optimizer.param_groups:
        for weight in group["params"] if group.get(GUARDED) else ():
            optimizer.state[weight].clear()


def allowed(limit: float, progress: float) -> float:
    """The KL that is allowed at a share of the steps, in nats a token."""
    return limit * float(EARLY ** (1 - progress))
