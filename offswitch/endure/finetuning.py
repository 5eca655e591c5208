"""Ordinary fine-tuning: somebody trains the model on rows of their own, without the trigger.

`continued`: the arm's own adapter learns on. `on top`: the arm is merged, and a second adapter is
trained on it. One training of each kind and rate, with the usual schedule over all its steps, is
measured at several of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from offswitch.endure.attack import ATTACKED, Attack, Attacked, Point, Target
from offswitch.endure.tuning import adapter_of, ordinary_rows, train_on, tuned
from offswitch.model.whole import based_on, whole_weights
from offswitch.options.endure import EndureOptions

STEPS: Final = (0, 10, 30, 100, 300)
QUICK: Final = (0, 5, 20)
CONTINUED, ON_TOP = "continued", "on top"


def points(options: EndureOptions) -> tuple[Point, ...]:
    """Every kind at every rate and step; a quick round goes on from the adapter alone."""
    ways = (CONTINUED,) if options.quick else (CONTINUED, ON_TOP)
    steps = QUICK if options.quick else STEPS
    return tuple(
        Point(f"{way} at {rate:g}", step) for way in ways for rate in options.rates
        for step in steps
    )  # fmt: skip


def prepare(target: Target, wanted: Sequence[Point], folder: Path) -> None:
    """One training for each kind and rate."""
    session, rows = target.session, ordinary_rows(target)
    for kind in dict.fromkeys(point.kind for point in wanted):
        way, _, rate = kind.partition(" at ")
        steps = [int(point.strength or 0) for point in wanted if point.kind == kind]
        weights = whole_weights(target.subject, target.arm) if way == ON_TOP else {}
        session.detach()
        start = None if way == ON_TOP else adapter_of(target)
        with based_on(session.subject, weights):
            train_on(target, rows, folder / kind, steps, start, float(rate))


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
    controlled=1,  # each is a training
)
