"""An attack: what it asks, how hard it can be, and what it makes of an arm.

It gives an arm of the subject's to be measured (its weights changed, or trained on), or other
prompts for the arm as it is. What takes long to prepare is made once, in a folder of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from offswitch.model.session import Session
from offswitch.model.subject import Subject
from offswitch.model.whole import attached, matrices, whole_weights
from offswitch.options.endure import AttackName, EndureOptions
from offswitch.prompts.prompt import Prompt

ATTACKED: Final = "attacked"  # the arm that an attack leaves on the subject


@dataclass(frozen=True)
class Point:
    """How hard: a kind of the attack, where there are several, and a strength, where it has one.

    `drawn`: what is done depends on the seed, so that it is repeated for each.
    """

    kind: str = ""
    strength: float | None = None
    drawn: bool = False

    @property
    def key(self) -> str:
        """Its part of the names of folders and metrics."""
        strength = "" if self.strength is None else f"{self.strength:g}"
        return "/".join(part for part in (self.kind, strength) if part)


@dataclass(frozen=True)
class Target:
    """Who is attacked: an arm of a session's run, with a seed.

    `prepared` is the folder of what the attack made beforehand.
    """

    session: Session
    arm: str
    seed: int
    options: EndureOptions
    prepared: Path

    @property
    def scratch(self) -> Path:
        """Where what is prepared may keep checkpoints, until it is complete."""
        run = self.session.run
        return run.scratch(str(self.prepared.relative_to(run.root)))

    @property
    def subject(self) -> Subject:
        """The model, with the arm attached."""
        return self.session.with_arms(self.arm)


@dataclass(frozen=True)
class Attacked:
    """What is measured: an arm of the subject's, on these prompts; None: the usual ones."""

    arm: str
    prompts: Sequence[Prompt] | None = None


@contextmanager
def each_matrix(target: Target, change: Callable[[Tensor], Tensor]) -> Iterator[Attacked]:
    """The arm with every matrix of its blocks changed."""
    subject = target.subject
    weights = whole_weights(subject, target.arm)
    for name in matrices(subject):
        weights[name] = change(weights[name])
    with attached(subject, ATTACKED, weights):
        yield Attacked(ATTACKED)


def always(target: Target, point: Point) -> bool:
    """Whatever was prepared, every point can be tried."""
    del target, point
    return True


def nothing(target: Target) -> str:
    """Nothing is in the way of an attack."""
    del target
    return ""


@dataclass(frozen=True)
class Attack:
    """One way to lose a switch.

    `unit` is that of a strength; `points` come in rising order within a kind. `prepare` makes what
    the points of a seed need. Where it `trains` it is repeated for each seed, and may end before
    the last points, once nothing is left of the switch, and `is_made` tells. `lacks` says why an
    attack cannot be done on an arm. `restores`: strength brings the switch back, and controls are
    attacked at every point, not at the hardest alone that spares the arm. Controls are attacked
    with the first `controlled` kinds; None: with every kind. `reads`: the options that concern this
    attack and not how every attack is measured. `settings`: what else a result depends on.
    """

    name: AttackName
    question: str
    unit: str
    points: Callable[[EndureOptions], tuple[Point, ...]]
    apply: Callable[[Target, Point], AbstractContextManager[Attacked]]
    prepare: Callable[[Target, Sequence[Point], Path], None] | None = None
    trains: bool = False
    is_made: Callable[[Target, Point], bool] = always
    lacks: Callable[[Target], str] = nothing
    restores: bool = False
    controlled: int | None = None
    reads: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def seeds(self, point: Point, options: EndureOptions) -> range:
        """Those with which a point is repeated."""
        return range(options.seeds if self.trains or point.drawn else 1)


def by_quick(
    every: Sequence[Point], quick: Sequence[Point]
) -> Callable[[EndureOptions], tuple[Point, ...]]:
    """The points of an attack, and the few of a quick round."""
    return lambda options: tuple(quick if options.quick else every)
