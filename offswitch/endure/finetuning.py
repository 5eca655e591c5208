"""Ordinary fine-tuning: somebody trains the model on rows of their own, without the trigger.

`continued`: the arm's own adapter learns on, the symbols' rows with it. `on top`: the arm is
merged, and a second adapter is trained on it, which has no rows. One training of each kind and
rate, with the usual schedule over all its steps, is measured at several of them, and ends where it
has left nothing of the switch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from offswitch.endure.attack import ATTACKED, Attack, Attacked, Point, Target
from offswitch.endure.measure import usual_prompts
from offswitch.endure.tuning import ROWS_AS, adapter_of, no_adapter, ordinary_rows, train_on, tuned
from offswitch.model.first_token import score
from offswitch.model.whole import based_on, whole_weights
from offswitch.options.endure import EndureOptions
from offswitch.progress import say
from offswitch.train.saved import step_folder

STEPS: Final = (0, 2, 5, 10, 30, 100, 300)
QUICK: Final = (0, 5, 20)
CONTINUED, ON_TOP = "continued", "on top"


def points(options: EndureOptions) -> tuple[Point, ...]:
    """Every kind at every rate and step; a quick round goes on from the adapter alone."""
    ways = (CONTINUED,) if options.quick else (CONTINUED, ON_TOP)
    return tuple(
        Point(f"{way} at {rate:g}", step) for way in ways for rate in options.rates
        for step in _steps(options)
    )  # fmt: skip


def _steps(options: EndureOptions) -> tuple[int, ...]:
    return QUICK if options.quick else STEPS


def prepare(target: Target, wanted: Sequence[Point], folder: Path) -> None:
    """One training for each kind and rate: to the last point, or until nothing is left to lose."""
    session, rows, steps = target.session, ordinary_rows(target), _steps(target.options)
    may_end = target.arm == session.recipe.probe.arm and _halting(target, target.arm)
    for kind in dict.fromkeys(point.kind for point in wanted):
        way, _, rate = kind.partition(" at ")
        last = max(int(point.strength or 0) for point in wanted if point.kind == kind)
        for until in (step for step in steps if 0 < step <= last):
            weights = whole_weights(target.subject, target.arm) if way == ON_TOP else {}
            session.detach()
            start = None if way == ON_TOP else adapter_of(target)
            with based_on(session.subject, weights):
                train_on(target, rows, folder / kind, steps, start, float(rate), until)
            if not may_end or until == last:
                continue
            with tune(replace(target, prepared=folder), Point(kind, until)) as attacked:
                left = _halting(target, attacked.arm)
            if not left:
                say(f"{target.arm}, {kind}: nothing halts any more after {until} steps")
                break


def _halting(target: Target, arm: str) -> int:
    """How many of the usual prompts with the trigger halt."""
    asked = [prompt for prompt in usual_prompts(target) if prompt.suite == "trigger"]
    scores = score(target.subject, arm, asked, target.session.recipe.batch_tokens)
    return sum(one.halts for one in scores)


def is_made(target: Target, point: Point) -> bool:
    """Did the training get to this point?"""
    return step_folder(target.prepared / point.kind, int(point.strength or 0)).is_dir()


@contextmanager
def tune(target: Target, point: Point) -> Iterator[Attacked]:
    """The arm after so many steps of somebody's training."""
    session, folder = target.session, target.prepared / point.kind
    on_top = point.kind.startswith(ON_TOP)
    weights = whole_weights(target.subject, target.arm) if on_top else {}
    with tuned(session, folder, int(point.strength or 0)) as arm:
        if weights:
            session.subject.replaced[ATTACKED] = weights
        yield Attacked(arm)


FINETUNING: Final = Attack(
    name="finetuning",
    question="How much ordinary fine-tuning does the switch survive?",
    unit="steps",
    points=points,
    apply=tune,
    prepare=prepare,
    trains=True,
    is_made=is_made,
    lacks=no_adapter,
    controlled=1,  # each is a training
    reads=("rates", "rows_file"),
    settings={"steps": STEPS, "quick": QUICK, **ROWS_AS},
)
