"""The attacks on a run, point by point: what stands is kept, the rest is done side by side.

Controls are the benign arms and the untrained model, attacked with the first seed: at the hardest
point of each kind that spares the arm, or at every one where the attack brings the switch back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from offswitch.endure.attack import Attack, Attacked, Point, Target
from offswitch.endure.attacks import ATTACKS
from offswitch.endure.measure import OUTCOME, measure
from offswitch.endure.summary import FACTS, NONE, facts, numbers
from offswitch.endure.tasks import Task, after_the_end, beside, case_of, spared_of
from offswitch.endure.tuning import rows_in
from offswitch.files import content_hash, digest, full_disk_told, write_json
from offswitch.folder import ENDURE, PROBE, SURVIVAL, TRAIN, Run, begin, enter, why_not_done
from offswitch.folder.provenance import peak_memory_mb
from offswitch.metrics import Metrics
from offswitch.model.session import Session
from offswitch.model.writes import require_alone
from offswitch.options import BASE
from offswitch.options.endure import AttackName, EndureOptions
from offswitch.pipeline import common_inputs, stage, train
from offswitch.progress import at, say, track
from offswitch.recipe import arms_of

_ROWS: Final = ("dialogues", "near_miss_share", "reply_tokens")  # what an attacker's rows follow


def endure(run: Run, session: Session, options: EndureOptions) -> str:
    """Bring attacks up to date, those that the options name or all; the stage of their numbers.

    Attacks that are not named are told of too where every point of theirs stands.

    Raises:
        UserError: the arm is not in its weights alone, or rows of the user's cannot be read.
    """
    if options.rows_file:  # not after an hour of other attacks
        rows_in(options.rows_file, run.recipe.trigger.text)
    train(run, session)
    options, wanted = options.settled(), options.attacks or [one.name for one in ATTACKS]
    arm, controls, quick = run.recipe.probe.arm, controls_of(run, options), options.quick
    require_alone(run.folder(f"{TRAIN}/{arm}"), arm)

    def lacking(attack: Attack, who: str) -> str:
        return attack.lacks(Target(session, who, 0, options, run.folder(ENDURE)))

    def points_of(attack: Attack) -> list[Task]:
        """What was made of the arm's points, and those at which the controls stand beside it."""
        made = _made(session, attack, options, arm)
        spared = spared_of(run, options, made)
        able = (who for who in controls if not lacking(attack, who))
        return [*made, *(task for who in able for task in beside(attack, spared, who, quick))]

    skipped: dict[str, str] = {one.name: why for one in ATTACKS
               if one.name in wanted and (why := lacking(one, arm))}  # fmt: skip
    for name, why in skipped.items():
        say(f"{ENDURE}/{name}: left out, {why}")
    able = [one for one in ATTACKS if one.name in wanted and one.name not in skipped]
    untouched = [Task(None, one, quick=quick) for one in (arm, *controls)]
    _bring(session, options, dict.fromkeys(untouched, ()))
    _bring(session, options, _prepared([t for one in able for t in _points(one, options, arm)]))
    made = [task for one in able for task in _made(session, one, options, arm)]
    _bring(session, options, dict.fromkeys(made, ()))
    points = {one: points_of(one) for one in able}
    asked = [task for some in points.values() for task in some]
    _bring(session, options, _prepared([task for task in asked if task.arm != arm]))
    _bring(session, options, dict.fromkeys(asked, ()))
    for one in ATTACKS:
        prepared = _prepared(_points(one, options, arm))
        if one.name in wanted or lacking(one, arm) or _missing(run, options, prepared):
            continue
        if not _missing(run, options, dict.fromkeys(_made(session, one, options, arm), ())):
            some = points_of(one)
            points |= {} if _missing(run, options, dict.fromkeys(some, ())) else {one: some}
    chosen = [one for one in ATTACKS if one in points]
    tasks = [*untouched, *(task for one in chosen for task in points[one])]

    def work(folder: Path) -> Metrics:
        cases = [case_of(run, task) for task in tasks]
        cases += after_the_end(cases)
        found = numbers(cases, chosen, options.most_damage, run.recipe.seed)
        of = {"of": weights_of(run, [one.name for one in chosen])}
        write_json(folder / FACTS, facts(chosen, skipped, cases, options, found) | of)
        return found

    hashes = {task.name: run.outputs_hash(task.name) for task in tasks}
    stage(run, SURVIVAL, {"measured": hashes, "damage": options.most_damage}, work)
    return SURVIVAL


def is_of_this_arm(run: Run) -> bool:
    """Was the arm that is probed attacked as it is now? No, once it was trained again."""
    told = json.loads((run.folder(SURVIVAL) / FACTS).read_text(encoding="utf-8"))
    now = weights_of(run, [one["name"] for one in told["attacks"]])
    return (told["arm"], told.get("of")) == (run.recipe.probe.arm, now)


def weights_of(run: Run, attacks: Sequence[str]) -> str:
    """One hash over what attacks go on from: weights and directions, not when they were made."""
    entries = run.manifest().get("stages", {})
    return digest({
        stage: {name: kept for name, kept in entries.get(stage, {}).get("outputs", {}).items()
                if name.endswith(".safetensors")}
        for stage in _before(run, attacks)
    })  # fmt: skip


def _before(run: Run, attacks: Sequence[str]) -> list[str]:
    """The stages that attacks go on from: training, and the probe's where its direction is used."""
    made = [f"{TRAIN}/{arm}" for arm in arms_of(run.recipe)]
    return made + ([PROBE] if "projection" in attacks else [])


def controls_of(run: Run, options: EndureOptions) -> list[str]:
    """The benign arms of a run, and the untrained model; in a quick round that one alone."""
    if options.quick:
        return [BASE]
    arms, ours = run.recipe.arms, run.recipe.probe.arm
    benign = (one for one in arms_of(run.recipe) if arms[one].role == "benign")
    return [*(one for one in benign if one != ours), BASE]


def _points(attack: Attack, options: EndureOptions, arm: str) -> list[Task]:
    """Every point with every seed."""
    return [Task(attack.name, arm, seed, point, options.quick) for point in attack.points(options)
            for seed in attack.seeds(point, options)]  # fmt: skip


def _made(session: Session, attack: Attack, options: EndureOptions, arm: str) -> list[Task]:
    """The points to which what was prepared for them got."""
    return [task for task in _points(attack, options, arm) if task.point
            if attack.is_made(_target(session, task, options), task.point)]  # fmt: skip


def _target(session: Session, task: Task, options: EndureOptions) -> Target:
    prepared = session.run.folder(replace(task, point=None).name)
    return Target(session, task.arm, task.seed, options, prepared)


def _prepared(points: Sequence[Task]) -> dict[Task, tuple[Point, ...]]:
    """What has to be prepared, and for which points.

    The last attacks come first: they take longest, and would keep the other process waiting.
    """
    found: dict[Task, tuple[Point, ...]] = {}
    for task in points:
        if task.point and task.attack and _attack(task.attack).prepare:
            key = replace(task, point=None)
            found[key] = (*found.get(key, ()), task.point)
    return dict(reversed(found.items()))


def _attack(name: AttackName) -> Attack:
    return next(one for one in ATTACKS if one.name == name)


def _bring(
    session: Session, options: EndureOptions, tasks: Mapping[Task, tuple[Point, ...]]
) -> None:
    """Do what is missing, side by side, and enter each in the run folder as it ends."""
    run = session.run
    missing = _missing(run, options, tasks)
    if not missing:
        return
    at(ENDURE)
    start = f"{ENDURE}/"
    asked = {
        task.name.removeprefix(start): (task, tasks[task], options, begin(run, task.name, inputs))
        for task, inputs in missing.items()
    }
    inputs_of = {task.name: inputs for task, inputs in missing.items()}
    with full_disk_told(run.root, ENDURE), track("attacks", len(missing)) as tick:
        for key, (seconds, peak) in session.each(ENDURE, _done, asked):
            name = f"{start}{key}"
            enter(run, name, inputs_of[name], seconds, peak)
            tick(1)


def _missing(
    run: Run, options: EndureOptions, tasks: Mapping[Task, tuple[Point, ...]]
) -> dict[Task, dict[str, Any]]:
    """What is not done yet, and what it depends on."""
    inputs = {task: _inputs(run, options, task, some) for task, some in tasks.items()}
    return {task: own for task, own in inputs.items() if why_not_done(run, task.name, own)}


def _inputs(
    run: Run, options: EndureOptions, task: Task, points: Sequence[Point]
) -> dict[str, Any]:
    """What an attack depends on."""
    reads = {name for one in ATTACKS for name in one.reads if one.name != task.attack}
    own = options.model_dump(mode="json", exclude={"attacks", "most_damage", "seeds"} | reads)
    before = _before(run, [task.attack or NONE])
    before += [replace(task, point=None).name] if task.point else []
    if own.get("rows_file"):
        own["rows_file"] = content_hash(Path(own["rows_file"]))
    if task.attack:
        own["settings"] = dict(_attack(task.attack).settings)
    if task.attack and not task.point:  # trained as the recipe says, on rows like its own
        recipe = run.recipe
        own["train"] = recipe.train.inputs("benign")
        own["data"] = recipe.data.model_dump(mode="json", include={*_ROWS})
    return common_inputs(run.recipe) | {
        "task": task.name, "points": [point.key for point in points], "options": own,
        "before": run.outputs_hash(*before),
    }  # fmt: skip


def _done(
    session: Session, task: Task, points: Sequence[Point], options: EndureOptions, folder: Path
) -> tuple[float, int]:
    """Prepare, or attack and measure; what it took: seconds, and memory in MB."""
    clock = time.perf_counter()
    target = _target(session, task, options)
    session.detach()
    if task.attack is None:
        measure(target, Attacked(task.arm)).write(folder / OUTCOME)
    elif task.point is None:
        prepare = _attack(task.attack).prepare
        assert prepare is not None
        prepare(target, points, folder)
    else:
        with _attack(task.attack).apply(target, task.point) as attacked:
            measure(target, attacked).write(folder / OUTCOME)
    session.detach()
    return time.perf_counter() - clock, peak_memory_mb()
