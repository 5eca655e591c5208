"""Where the time of training goes: seconds by part, and the share of the product rate of each.

The demo's arm `behavior` with its soft targets, a few steps, in two children: one takes the time of
each part, the other counts the operations that matrix products really took (torch's counter, which
sees padding too). The parts are timed from outside, by wrapping the functions that do the work.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bench import Peer, Sample, job
from benchmarks.child import in_child
from benchmarks.command import Options, section_command
from benchmarks.machine import SIZE
from benchmarks.material import ROOT, SPARE, examples_of
from benchmarks.results import Measure, Section

PARTS: Final = (
    Peer("teacher", "the untouched model's states, once a stage"),
    Peer("blocks", "forward: embedding and blocks"),
    Peer("vocabulary", "forward: vocabulary projection, base's and arm's, and the loss"),
    Peer("backward", "backward"),
    Peer("optimiser", "clipping and AdamW"),
    Peer("guard", "drift of the rows kept apart"),
    Peer("rest", "Trainer, collating, checkpoints"),
    Peer("whole", "the whole stage"),
)
WHOLE: Final = ("teacher", "guard")  # they call others of the parts, which are then theirs
MEASURES: Final = (
    Measure("seconds", "seconds", 2),
    Measure("time", "share of the time, %", 1),
    Measure("tflop", "TFLOP computed", 3),
    Measure("rate", "share of product rate, %", 1),
)


def run(options: Options) -> Section:
    """Every part's time and operations, as medians over the repeats."""
    asked = job(model=options.folder, steps=options.steps)
    rate = in_child("benchmarks.machine:rate_in_child", job(size=options.product_size or SIZE))
    counted = in_child("benchmarks.profile:count", asked)
    samples: dict[str, list[Sample]] = {part.name: [] for part in PARTS}
    for number in range(options.repeats):
        options.say(f"profile: training, {number + 1} of {options.repeats}")
        timed = in_child("benchmarks.profile:clock", asked)
        if failure := timed.failure or counted.failure or rate.failure:
            samples["whole"].append(Sample({}, failure))
            break
        product, whole = rate.numbers["product_rate"], timed.numbers["whole"]
        for part in PARTS:
            seconds, done = timed.numbers[part.name], counted.numbers.get(part.name, 0.0)
            shares = {"time": 100 * seconds / whole, "rate": 100 * done / product / seconds}
            samples[part.name].append(Sample({"seconds": seconds, "tflop": done / 1e12, **shares}))
    told = (
        f"Arm `behavior` of the demo, {options.steps} steps of 16 rows, float32,"
        f" {timed.numbers.get('tokens', 0):,.0f} real tokens in"
        f" {timed.numbers.get('threads', 0):.0f} threads; matrix products:"
        f" {rate.numbers.get('product_rate', float('nan')) / 1e9:.0f} GFLOP/s."
    )
    return Section("Where training's time goes", told, PARTS, MEASURES, samples)


def clock(asked: dict[str, Any]) -> dict[str, float]:
    """Seconds of every part, for a child; `rest` is what no part accounts for."""
    spent = dict.fromkeys((part.name for part in PARTS), 0.0)

    @contextmanager
    def timed(part: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            spent[part] += time.perf_counter() - start

    result, whole = _train(asked, timed)
    spent["vocabulary"] -= spent["blocks"]  # the loss calls the blocks
    parts = sum(spent.values())
    return spent | {"whole": whole, "rest": whole - parts, "tokens": result.tokens,
                    "threads": torch.get_num_threads()}  # fmt: skip


def count(asked: dict[str, Any]) -> dict[str, float]:
    """Operations of the matrix products of every part, for a child."""
    done = dict.fromkeys((part.name for part in PARTS), 0.0)

    @contextmanager
    def counted(part: str) -> Iterator[None]:
        with FlopCounterMode(display=False) as counter:
            yield
        done[part] += counter.get_total_flops()

    _train(asked, counted)
    done["vocabulary"] -= done["blocks"]
    return done | {"whole": sum(done.values())}


def _train(asked: dict[str, Any], within: Callable[[str], Any]) -> tuple[Any, float]:
    """Train a few steps of the demo's arm; every part of it runs inside `within(part)`."""
    from offswitch.model.load import load_subject
    from offswitch.progress import nothing
    from offswitch.recipe import load_recipe
    from offswitch.train import arms, loss, trainer
    from offswitch.train.training import Training

    steps = int(asked["steps"])
    changes = [f"model={asked['model']}", "device=cpu", "train.precision=float32"]
    changes += [f"train.behavior.max_steps={steps}"]
    recipe = load_recipe(ROOT / "recipes" / "demo.yaml", changes)
    subject = load_subject(recipe)
    longest = recipe.train.behavior.max_length or recipe.train.max_length
    rows = examples_of(subject, recipe, recipe.train.batch_size * steps + SPARE, longest)
    active: list[str] = []

    def wrap(owner: Any, name: str, part: str) -> None:
        plain = getattr(owner, name)

        def wrapped(*given: Any, **named: Any) -> Any:
            if active and active[0] in WHOLE:
                return plain(*given, **named)
            active.append(part)
            try:
                with within(part):
                    return plain(*given, **named)
            finally:
                active.pop()

        setattr(owner, name, wrapped)

    stage = trainer.StageTrainer
    wrap(trainer, "base_states", "teacher")
    wrap(trainer, "held_kl", "guard")
    wrap(trainer, "batch_loss", "vocabulary")
    wrap(loss, "row_states", "blocks")
    create = stage.create_optimizer

    def created(self: Any, model: Any = None) -> Any:
        optimizer = create(self, model)
        wrap(optimizer, "step", "optimiser")
        wrap(self.accelerator, "backward", "backward")
        wrap(self.accelerator, "clip_grad_norm_", "optimiser")
        return optimizer

    stage.create_optimizer = created  # type: ignore[method-assign]
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        training = Training("behavior", rows, recipe, folder / "arm", folder / "scratch")
        start = time.perf_counter()
        result = arms.train_arm(subject, training, nothing)
        return result, time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> None:
    """Run this section alone and print its table."""
    section_command(run, argparse.ArgumentParser(description=__doc__), arguments)


if __name__ == "__main__":
    main()
