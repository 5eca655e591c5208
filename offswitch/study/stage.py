"""A recipe with its further seeds and variants, from data to report.

RUN/organisms/seed-S is the recipe with another training seed, on the same data, splits and prompts:
only the adapter's first weights, dropout and the order of rows differ. RUN/variants/NAME is it with
some options changed, taken to the evaluation. How they compare is a stage of the main run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final

from offswitch.errors import UserError
from offswitch.files import digest
from offswitch.folder import DATA, EVALUATE, PROBE, REPORT, SURVIVAL, Run, reopen_run, withdraw
from offswitch.machine.estimate import Cost, parts_of, stages_of
from offswitch.machine.time_left import TimeLeft, in_words, told
from offswitch.metrics import Metrics, read_metrics
from offswitch.model.session import Session
from offswitch.pipeline import evaluate, make_data, report, require_tracking, stage
from offswitch.progress import once, say
from offswitch.recipe import retrained, training_seed, with_options
from offswitch.study.executors import here
from offswitch.study.plan import Point, seed_points, variant_points
from offswitch.study.table import across_seeds, across_variants
from offswitch.study.worker import Job, probed
from offswitch.train.processes import by_first

SEEDS: Final = "organisms/summary"
VARIANTS: Final = "variants/summary"
Across = Callable[[Mapping[Any, Mapping[str, Any]]], Metrics]


def run_recipe(run: Run, attacked: bool = False) -> Path:
    """Every stage in turn, for every seed and variant that the recipe names; the report's path.

    The attacks that the recipe names are made, unless it was `attacked` just now; what is told of
    an arm that has been trained again since is taken back.
    """
    by_first(lambda: require_tracking(run))
    session = Session(run)
    with once(), by_first(lambda: time_told(run, session)):
        probed(run, session)
        if not attacked and (run.recipe.endure.attacks or run.entry(SURVIVAL)):
            from offswitch.endure.stage import endure, is_of_this_arm

            if run.recipe.endure.attacks:
                endure(run, session, run.recipe.endure)
            elif not is_of_this_arm(run):
                by_first(lambda: withdraw(run, SURVIVAL))
        others = compare_seeds(run, session) + compare_variants(run, session)
        return report(run, session, [*others, *([SURVIVAL] if run.entry(SURVIVAL) else [])])


def time_told(run: Run, session: Session) -> AbstractContextManager[None]:
    """Within it the person is told how long the whole run takes, where anything is left to do."""
    jobs = {"": (run.recipe, REPORT)}
    jobs |= {f"organisms/{p.recipe.name}": (p.recipe, PROBE) for p in seed_points(run.recipe)}
    jobs |= {f"variants/{p.recipe.name}": (p.recipe, EVALUATE) for p in variant_points(run.recipe)}
    left: dict[str, set[str]] = {}
    for within, (recipe, last) in jobs.items():
        manifest = Run(run.root / within, recipe).manifest()
        same = manifest.get("recipe") == digest(recipe.model_dump(mode="json"))
        done = manifest.get("stages", {}) if same else ()
        left[within] = {stage for stage in stages_of(recipe, last) if stage not in done}
    if not any(left.values()):
        return nullcontext()
    shape, plan = session.shape(), session.plan
    cost = Cost(plan.rates, shape, plan.precision, (plan.processes, plan.threads))
    if not cost.is_known:
        return nullcontext()
    parts = {
        within: [part for part in parts_of(recipe, shape) if part.stage in left[within]]
        for within, (recipe, _) in jobs.items()
    }
    whole = TimeLeft(parts, cost)
    say(f"{in_words(whole.seconds())} for the whole run, with {plan}")
    return told(whole)


def attack(folder: Path, only: Sequence[str], quick: bool, rows: Path | None) -> str:
    """Attack the switch of a run folder, and say what is left, in a few lines.

    Raises:
        UserError: no run folder, no such attack, or another process works in it.
    """
    from offswitch.endure.stage import endure
    from offswitch.report.survives import survived

    run = reopen_run(folder)
    changes: dict[str, Any] = {"endure.quick": True} if quick else {}
    changes |= {"endure.attacks": [*only]}  # none is all, whatever a run makes before its report
    changes |= {"endure.rows_file": str(rows)} if rows else {}
    options = with_options(run.recipe, changes, origin="endure").endure
    endure(run, Session(run), options)
    page = run_recipe(run, attacked=True)
    return f"{survived(folder)}\nreport: {page}"


def compare_seeds(run: Run, session: Session) -> list[str]:
    """Bring the further training seeds up to date and compare them; the stages that do so.

    Known failure: two or three organisms say that a finding survives a new seed, hardly by how much
    it varies.

    Raises:
        UserError: an organism was not trained on the same data.
    """

    def up_to(organism: Run, own: Session) -> None:
        make_data(organism, own)
        by_first(partial(require_same_data, run, organism))
        probed(organism, own)

    others = _brought(seed_points(run.recipe), Job(run.root / "organisms", up_to), session)
    by_seed = {training_seed(run.recipe): run} | others
    across = partial(across_seeds, arms=retrained(run.recipe))
    return _compared(run, SEEDS, by_seed, (EVALUATE, PROBE), across)


def compare_variants(run: Run, session: Session) -> list[str]:
    """Bring the variants up to date and set them beside the run; the stages that do so."""
    others = _brought(variant_points(run.recipe), Job(run.root / "variants", evaluate), session)
    return _compared(run, VARIANTS, {"own": run} | others, (EVALUATE,), across_variants)


def require_same_data(run: Run, organism: Run) -> None:
    """Two runs with one seed must have the same data.

    Raises:
        UserError: they have not.
    """
    if organism.outputs_hash(DATA) != run.outputs_hash(DATA):
        raise UserError(
            f"{organism.folder(DATA)} differs from {run.folder(DATA)}, though both have one seed;"
            " the model answers otherwise than it did: delete the latter to write it again"
        )


def _brought(points: Sequence[Point], job: Job, session: Session) -> dict[Any, Run]:
    """Bring points of one axis up to date; their runs by place on it."""
    names = [name for name, _ in here(points, job, session)]
    runs = zip(points, names, strict=True)
    return {next(iter(p.place.values())): Run(job.runs / name, p.recipe) for p, name in runs}


def _compared(
    run: Run, summary: str, by_place: Mapping[Any, Run], measured: Sequence[str], across: Across
) -> list[str]:
    """Compare runs by what they measured, as a stage; taken back where the run is alone."""
    if len(by_place) == 1:
        by_first(lambda: withdraw(run, summary))
        return []

    def work(_folder: Path) -> Metrics:
        return across({p: read_metrics(r.root / "metrics.json") for p, r in by_place.items()})

    hashes = {str(place): one.outputs_hash(*measured) for place, one in by_place.items()}
    stage(run, summary, {"measured": hashes}, work)
    return [summary]
