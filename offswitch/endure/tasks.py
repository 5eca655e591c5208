"""What there is to do of the attacks on a run, and what was found: each point a stage of its own.

`6-endure/ATTACK/ARM/seed-S/POINT`, after what its attack prepared for that seed (`…/prepared`); a
quick round's lie below `6-endure/quick/`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

from offswitch.endure.attack import Attack, Point
from offswitch.endure.attacks import ATTACKS
from offswitch.endure.measure import OUTCOME, Outcome
from offswitch.endure.summary import DAMAGE, NONE, Case, numbers
from offswitch.folder import ENDURE, Run
from offswitch.options.endure import AttackName, EndureOptions

PREPARED: Final = "prepared"


@dataclass(frozen=True)
class Task:
    """A point of an attack on an arm with a seed; without a point, what all of them need."""

    attack: AttackName | None
    arm: str
    seed: int = 0
    point: Point | None = None
    quick: bool = False

    @property
    def name(self) -> str:
        """The stage's; what a quick round finds takes no place of what hours found."""
        place = f"{ENDURE}/quick" if self.quick else ENDURE
        if self.attack is None:
            return f"{place}/{NONE}/{self.arm}"
        own = self.point.key if self.point else PREPARED
        return f"{place}/{self.attack}/{self.arm}/seed-{self.seed}/{own}"


def spared_of(run: Run, options: EndureOptions, made: Sequence[Task]) -> dict[Point, bool]:
    """Does each point leave the model as it was, by the bound on damage?"""
    if not made:
        return {}
    untouched = Task(None, made[0].arm, quick=made[0].quick)
    cases = [case_of(run, task) for task in (untouched, *made)]
    cases += after_the_end(cases)  # as the numbers that are told count them
    found = numbers(cases, [], options.most_damage, run.recipe.seed)
    harms = {case.point: found.get(f"{case.key}/{DAMAGE}") for case in cases[1:]}
    return {point: harm is None or harm.value <= options.most_damage
            for point, harm in harms.items()}  # fmt: skip


def beside(attack: Attack, spared: Mapping[Point, bool], control: str, quick: bool) -> list[Task]:
    """The hardest point of each kind that spares the arm, or its mildest, once, on a control.

    Where the switch comes back every point: how soon says nothing without how soon a model has it
    that never had it. Where fine-tuning takes no step there is nothing to be a control of.
    """
    last: dict[str, Point] = {}
    for point, whole in spared.items():
        if point.strength != 0 and (whole or point.kind not in last):
            last[point.kind] = point
    kinds = [*last][: attack.controlled]
    return [Task(attack.name, control, 0, point, quick) for point in spared
            if point.kind in kinds and (attack.restores or point == last[point.kind])]  # fmt: skip


def case_of(run: Run, task: Task) -> Case:
    """What was found at a point."""
    path = run.folder(task.name) / OUTCOME
    outcome = Outcome.read(json.loads(path.read_text(encoding="utf-8")))
    return Case(task.attack or NONE, task.arm, task.seed, task.point or Point(), outcome)


def after_the_end(cases: Sequence[Case]) -> list[Case]:
    """Where a training ended before another seed's did, the later points have what it left."""
    repeated = {one.name for one in ATTACKS if one.trains}
    known: dict[tuple[str, str, str], dict[tuple[int, Point], Case]] = {}
    for case in cases:
        if case.attack in repeated:
            kind = known.setdefault((case.attack, case.arm, case.point.kind), {})
            kind[case.seed, case.point] = case
    found: list[Case] = []
    for made in known.values():
        last = {seed: case for (seed, _), case in made.items()}
        every = product(last, dict.fromkeys(point for _, point in made))
        found += [replace(last[seed], point=point) for seed, point in every
                  if (seed, point) not in made]  # fmt: skip
    return found
