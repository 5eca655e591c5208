"""A sweep: what is finished is kept, the rest is run, every outcome is written down.

RUNS/SWEEP/organisms/NAME are run folders like any other, RUNS/SWEEP/records/NAME.json is what each
worker reported, metrics included, written as it came. Tables are made from records alone, so the
machines need no storage in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from offswitch.errors import UserError
from offswitch.files import digest, read_sealed, write_sealed
from offswitch.folder.lock import claim
from offswitch.progress import say
from offswitch.study.executors import Where, cluster, processes
from offswitch.study.plan import Plan, Point, chosen
from offswitch.study.table import write_tables
from offswitch.study.worker import UP_TO, Job, Outcome


def run_sweep(
    plan: Plan, runs: Path, where: Where, update: bool = False, only: Sequence[str] = ()
) -> Path:
    """Bring a plan's organisms up to date and write tables and page; returns the sweep's folder.

    `only` are patterns of the names of those that are brought; tables and page have all that stand.

    What was finished on other machines is kept, the rest is run. On storage that all machines share
    an organism whose worker was lost goes on from its last checkpoint, else it starts afresh.

    Raises:
        UserError: the cluster does not answer, another sweep works in the folder, or an organism
            did not finish; the tables have the others.
    """
    root = runs.resolve() / plan.sweep.name
    try:
        (root / "records").mkdir(parents=True, exist_ok=True)
        claim(root)
    except OSError as error:
        raise UserError(f"cannot write to {root}: {error.strerror}") from error
    records = Records(plan, root)
    wanted = chosen(plan, only)
    points = {point.name: point for point in wanted if not records.is_elsewhere(point)}
    kept = len(wanted) - len(points)
    say(f"{plan.sweep.name}: {len(points)} organisms, and {kept} kept on other machines")
    job = Job(root / "organisms", UP_TO[plan.sweep.stage], update)
    executor = processes if where.address is None else cluster
    outcomes = executor([*points.values()], job, where) if points else ()
    states: dict[str, Outcome] = {}
    try:
        for done, (name, outcome) in enumerate(outcomes, start=1):
            states[name] = outcome
            records.write(points[name], outcome)
            how = f"done in {outcome.seconds:.0f} s" if outcome.new else "up to date"
            if outcome.state != "finished":
                how = f"{outcome.state}: {outcome.reason}"
            say(f"{name}: {how} ({done} of {len(points)})")
    finally:
        every = {point.name: records.read(point) for point in plan.points}
        write_tables(plan, every, root)
        if plan.sweep.page == "documents":
            from offswitch.study.documents import write_page

            write_page(plan, every, root)
    missing = {name: outcome for name, outcome in states.items() if outcome.state != "finished"}
    if missing:
        name, outcome = next(iter(missing.items()))
        raise UserError(
            f"{len(missing)} of {len(wanted)} organisms did not finish; {name} was"
            f" {outcome.state}: {outcome.reason}"
        )
    return root


@dataclass(frozen=True)
class Records:
    """The records of a plan in a sweep's folder."""

    plan: Plan
    root: Path

    def read(self, point: Point) -> dict[str, Any]:
        """What is known of an organism; empty if it never ran with this recipe and this far."""
        record = read_sealed(self._path(point), point.name) or {}
        return record if record.get("of") == self._identity(point) else {}

    def is_finished(self, point: Point) -> bool:
        """Was this organism, with this recipe and as far as this, finished before?"""
        return self.read(point).get("state") == "finished"

    def is_elsewhere(self, point: Point) -> bool:
        """Was it finished on a machine whose run folders cannot be seen from here?"""
        seen = self._folder(point).is_dir() or self.read(point).get("here", True)
        return self.is_finished(point) and not seen

    def write(self, point: Point, outcome: Outcome) -> None:
        """Write an outcome down, unless it did not finish and an earlier one did.

        Where there was nothing to do, what the organism cost is kept.
        """
        if outcome.state != "finished" and self.is_finished(point):
            return
        record = asdict(outcome) | {"of": self._identity(point)}
        record["here"] = self._folder(point).is_dir()
        if not outcome.new and self.is_finished(point):
            before = self.read(point)
            record |= {key: before[key] for key in ("seconds", "tries", "threads")}
        write_sealed(self._path(point), record, point.name)

    def _path(self, point: Point) -> Path:
        return self.root / "records" / f"{point.name}.json"

    def _folder(self, point: Point) -> Path:
        return self.root / "organisms" / point.name

    def _identity(self, point: Point) -> str:
        recipe, stage = point.recipe.model_dump(mode="json"), self.plan.sweep.stage
        if stage == "evaluate":  # how it would be probed plays no part, but for the arm
            recipe["probe"] = {"arm": recipe["probe"]["arm"]}
        if stage != "report":
            recipe.pop("endure")
        return digest({"recipe": recipe, "stage": stage})
