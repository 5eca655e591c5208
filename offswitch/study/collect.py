"""From plan to table: what is finished is kept, the rest is run, every outcome is written down.

RUNS/SWEEP/organisms/NAME are run folders like any other, RUNS/SWEEP/records/NAME.json is what each
worker reported, its metrics among it, written as it came. The tables are made from the records
alone, so the machines need no storage in common. With it (`--runs` on a shared drive) an organism
whose worker was lost goes on from its last checkpoint on any machine; without it, it starts anew
where it is put next, and its run folder stays on the machine that made it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from offswitch.errors import UserError
from offswitch.files import digest, write_atomic
from offswitch.metrics import read_metrics
from offswitch.progress import say
from offswitch.run import claim
from offswitch.study.cluster import Where, require_ray, run_jobs
from offswitch.study.plan import Organism, Plan
from offswitch.study.table import write_tables
from offswitch.study.worker import Job, Outcome


def run_sweep(plan: Plan, runs: Path, where: Where, update: bool = False) -> Path:
    """Bring every organism of a plan up to date and write the tables; returns the sweep's folder.

    Raises:
        UserError: Ray is not installed, another sweep works in the folder, or an organism did not
            finish; the tables have the others.
    """
    require_ray()
    root = runs.resolve() / plan.sweep.name
    try:
        (root / "records").mkdir(parents=True, exist_ok=True)
        claim(root)
    except OSError as error:
        raise UserError(f"cannot write to {root}: {error.strerror}") from error
    jobs = {
        one.name: Job(one.recipe, root / "organisms", plan.sweep.stage, update, Path.cwd())
        for one in plan.organisms
        if not _is_kept(plan, one, root)
    }
    try:
        _run(plan, root, jobs, where)
    finally:
        write_tables(plan, records(plan, root), root)
    _require_all_finished(records(plan, root))
    return root


def records(plan: Plan, root: Path) -> dict[str, dict[str, Any]]:
    """What is known of each organism by name; of those that never ran with this recipe, nothing."""
    found = [(one, read_metrics(_record(root, one.name))) for one in plan.organisms]
    return {o.name: r if r.get("of") == _of(plan, o) else {} for o, r in found}


def is_finished(plan: Plan, one: Organism, root: Path) -> bool:
    """Was this organism, with this recipe and as far as this, finished before?"""
    record = read_metrics(_record(root, one.name))
    return record.get("state") == "finished" and record.get("of") == _of(plan, one)


def _run(plan: Plan, root: Path, jobs: Mapping[str, Job], where: Where) -> None:
    by_name = {one.name: one for one in plan.organisms}
    kept = len(by_name) - len(jobs)
    say(f"{plan.sweep.name}: {len(jobs)} organisms, and {kept} kept on other machines")
    if not jobs:
        return
    for done, (name, outcome) in enumerate(run_jobs(jobs, where), start=1):
        _enter(plan, by_name[name], root, outcome)
        say(f"{name}: {_said(outcome)} ({done} of {len(jobs)})")


def _enter(plan: Plan, one: Organism, root: Path, outcome: Outcome) -> None:
    """Write an outcome down; an organism that had nothing to do keeps what it cost to make."""
    record = asdict(outcome) | {"of": _of(plan, one), "here": _folder(root, one).is_dir()}
    if not outcome.new and is_finished(plan, one, root):
        before = read_metrics(_record(root, one.name))
        record |= {key: before[key] for key in ("seconds", "tries", "threads")}
    write_atomic(_record(root, one.name), json.dumps(record, indent=1) + "\n")


def _is_kept(plan: Plan, one: Organism, root: Path) -> bool:
    """Finished on a machine whose run folders cannot be seen from here: not to be made again."""
    here = read_metrics(_record(root, one.name)).get("here", True)
    return is_finished(plan, one, root) and not here and not _folder(root, one).is_dir()


def _of(plan: Plan, one: Organism) -> str:
    return digest({"recipe": one.recipe.model_dump(mode="json"), "stage": plan.sweep.stage})


def _folder(root: Path, one: Organism) -> Path:
    return root / "organisms" / one.name


def _record(root: Path, name: str) -> Path:
    return root / "records" / f"{name}.json"


def _said(outcome: Outcome) -> str:
    if outcome.state != "finished":
        return f"{outcome.state}: {outcome.reason}"
    return f"done in {outcome.seconds:.0f} s" if outcome.new else "up to date"


def _require_all_finished(found: Mapping[str, Mapping[str, Any]]) -> None:
    missing = {name: record for name, record in found.items() if record["state"] != "finished"}
    if missing:
        name, record = next(iter(missing.items()))
        raise UserError(
            f"{len(missing)} of {len(found)} organisms did not finish; {name} was"
            f" {record['state']}: {record['reason']}"
        )
