"""The stages, from data to report, in their order; what stands already is skipped.

Each function brings the stages before it. torch and transformers are imported when a stage has
work to do, so that finding nothing to do takes a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from offswitch.files import content_hash, full_disk_told
from offswitch.folder import (
    DATA,
    EVALUATE,
    PROBE,
    REPORT,
    TRAIN,
    Run,
    begin,
    enter,
    why_not_done,
    writing,
)
from offswitch.machine import time_left
from offswitch.machine.workers import Answer, Pool
from offswitch.metrics import Metrics, write_metrics
from offswitch.model.session import Session, in_child
from offswitch.model.source import identity
from offswitch.options import BASE
from offswitch.options.arms import reads_neutral, steps_kept
from offswitch.progress import at, say, unsaid
from offswitch.recipe import Recipe, arms_of, trained_here, used_arms
from offswitch.train.processes import by_first, count, rank, require_shares
from offswitch.train.trackers import require_trackers

Then = Callable[[Session, Sequence[str]], None]


def make_data(run: Run, session: Session | None = None) -> Session:
    """Write both datasets and the report on their quality."""
    session = session or Session(run)
    options = run.recipe.data

    def work(folder: Path) -> None:
        from offswitch.data.stage import write_data

        write_data(session, folder)

    paths = (options.documents_file, options.dialogues_file, options.neutral_file)
    files = [content_hash(path) if path else None for path in paths]
    control = {"neutral alone": True} if reads_neutral(used_arms(run.recipe)) else {}
    stage(run, DATA, {"data": options.inputs(), "files": files} | control, work)
    return session


def train(run: Run, session: Session | None = None, then: Then | None = None) -> Session:
    """Train every arm of the recipe, several at a time where this machine is faster so.

    `then` is what processes do that have no arm left to train: it is told arms that stand.
    """
    processes = count()
    by_first(lambda: require_shares(run.recipe.train.batch_size, processes))
    by_first(lambda: require_tracking(run))
    session = session or Session(run)
    if trained_here(run.recipe):
        make_data(run, session)
    if processes == 1:
        _train_beside(session, then)
    else:
        for arm in session.arms:
            _train(session, arm)
    return session


def require_tracking(run: Run) -> None:
    """Refuse trackers that are not installed, where an arm is still to be trained.

    Raises:
        UserError: one is not installed.
    """
    if not all(run.entry(f"{TRAIN}/{arm}") for arm in trained_here(run.recipe)):
        require_trackers(run.recipe.train.report_to)


def _train(session: Session, arm: str) -> None:
    def work(folder: Path) -> Metrics:
        from offswitch.train.stage import write_arm

        return write_arm(session, arm, folder)

    stage(session.run, f"{TRAIN}/{arm}", _for_arm(session, arm), work, everywhere=True)


def _train_beside(session: Session, then: Then | None) -> None:
    """Each arm in the pool, or here where there is none, once that which it goes on from stands.

    What ends is entered. An arm that fails ends the others, whose checkpoints stay.
    """
    run, waiting, untold = session.run, [*session.arms], [BASE, *session.arms]
    at_work: dict[str, dict[str, Any]] = {}  # inputs, by stage
    pool: Pool | None = None

    def finish(answer: Answer) -> None:
        with full_disk_told(run.root, answer.key):
            answer.result()
            inputs = at_work.pop(answer.key)
            enter(run, answer.key, inputs, answer.seconds, answer.peak_memory_mb)
        _say_done(run, answer.key)

    def ready(arm: str) -> bool:
        before = session.recipe.arms[arm].after
        return before not in waiting and f"{TRAIN}/{before}" not in at_work

    try:
        while waiting or at_work:
            while arm := next(filter(ready, waiting), None):
                waiting.remove(arm)
                name, inputs = f"{TRAIN}/{arm}", _for_arm(session, arm)
                why = why_not_done(run, name, inputs)
                pool = session.pool if why else pool  # asked for only now: it imports torch
                if why and pool is None:
                    _train(session, arm)
                elif _say_why(run, name, why) and pool:
                    at_work[name] = inputs
                    pool.submit(name, in_child, run, _write_arm, (arm, begin(run, name, inputs)))
            if not (at_work and pool):
                continue
            if then and not waiting:
                then(session, [arm for arm in untold if f"{TRAIN}/{arm}" not in at_work])
                untold = [arm for arm in untold if f"{TRAIN}/{arm}" in at_work]
            finish(pool.next(at_work))
    except BaseException:
        for answer in pool.ended() if pool else ():
            if answer.error is None and answer.key in at_work:
                finish(answer)
        if pool:
            pool.close()
        raise


def _write_arm(session: Session, arm: str, folder: Path) -> None:
    from offswitch.train.stage import write_arm

    write_metrics(folder / "metrics.json", write_arm(session, arm, folder))


def _for_arm(session: Session, arm: str) -> dict[str, Any]:
    """What the training of an arm depends on."""
    run, table = session.run, session.recipe.arms[arm]
    if table.brought:
        return {"arm": table.model_dump(), "brought": identity(table.brought)}
    if of := table.kept_of:
        of = run.outputs_hash(f"{TRAIN}/{of}")
        return common_inputs(run.recipe) | {"arm": table.model_dump(), "of": of}
    made = table.model_dump(exclude={"adapter", "model", "kept_of", "step"})
    before = [DATA, *([f"{TRAIN}/{table.goes_on_from}"] if table.goes_on_from else [])]
    own: dict[str, Any] = {"train": session.recipe.train.inputs(table.stages[-1])}
    own |= {"kept": kept} if (kept := steps_kept(used_arms(run.recipe), arm)) else {}
    return common_inputs(run.recipe) | own | {"arm": made, "before": run.outputs_hash(*before)}


def evaluate(run: Run, session: Session | None = None) -> Session:
    """Measure every arm, the untouched model first."""

    def ahead(session: Session, arms: Sequence[str]) -> None:
        from offswitch.evaluate.stage import measure_ahead

        measure_ahead(session, arms)

    session = train(run, session, ahead)
    options = run.recipe.evaluate.inputs()
    inputs = {
        "evaluate": options,
        "samples of": run.recipe.probe.arm,
        "drift over": run.recipe.data.reply_tokens,
        "arms": _trained(run),
    }

    def work(folder: Path) -> Metrics:
        from offswitch.evaluate.stage import write_evaluation

        return write_evaluation(session, folder)

    stage(run, EVALUATE, inputs, work)
    return session


def probe(run: Run, session: Session | None = None) -> Session:
    """Collect activations once, then run the analyses on the saved arrays."""
    session = train(run, _that_can_be_probed(run, session))
    options = run.recipe.probe.model_dump(mode="json")

    def work(folder: Path) -> None:
        from offswitch.probe.stage import write_probe

        write_probe(session, folder)

    stage(run, PROBE, {"probe": options, "arms": _trained(run)}, work)
    return session


def _that_can_be_probed(run: Run, session: Session | None) -> Session:
    """A session of a run, refused before anything is trained that no probe could read."""
    session = session or Session(run)

    def check() -> None:
        from offswitch.probe.intervene import require_probes

        require_probes(session.subject)

    if not any(run.entry(name) for name in (PROBE, *(f"{TRAIN}/{arm}" for arm in session.arms))):
        by_first(check)
    return session


def report(run: Run, session: Session | None = None, comparisons: Sequence[str] = ()) -> Path:
    """Write the page and the summary, after comparisons made as stages; returns the page's path."""
    session = probe(run, evaluate(run, _that_can_be_probed(run, session)))

    def work(folder: Path) -> None:
        from offswitch.report.build import build_report

        build_report(run.root, folder)

    arms = (f"{TRAIN}/{arm}" for arm in session.arms)
    before = run.outputs_hash(DATA, *arms, EVALUATE, PROBE, *comparisons)
    stage(run, REPORT, {"before": before}, work)
    return run.folder(REPORT) / "report.html"


def stage(
    run: Run,
    name: str,
    own: Mapping[str, Any],
    work: Callable[[Path], Metrics | None],
    everywhere: bool = False,
) -> None:
    """Run a stage if it is missing or its inputs changed, and say why in one line.

    Of several processes the first one decides, works and writes, while the others wait; work that
    is to be done `everywhere` the others do too, each with a folder that nobody keeps.
    """

    def missing() -> tuple[dict[str, Any], str | None]:
        return (inputs := common_inputs(run.recipe) | dict(own)), why_not_done(run, name, inputs)

    def write() -> None:
        with writing(run, name, inputs) as folder:
            if metrics := work(folder):
                write_metrics(folder / "metrics.json", metrics)
        _say_done(run, name)

    inputs, why = by_first(missing)
    if not _say_why(run, name, why):
        return
    if not everywhere:
        by_first(write)
    elif rank() == 0:
        write()
    else:
        with TemporaryDirectory() as nowhere:
            work(Path(nowhere))


def _say_why(run: Run, name: str, why: str | None) -> bool:
    """Say why a stage must run, or that it need not; must it?"""
    if why is not None:
        at(f"{run.within}/{name}".removeprefix("/"))
        say(f"{run.within}/{name}: {why}{time_left.begins(run.within, name)}".removeprefix("/"))
        return True
    time_left.ends(run.within, name)
    if not run.within:  # an organism says so once, when nothing at all was missing
        say(f"{name}: up to date")
    return False


def _say_done(run: Run, name: str) -> None:
    time_left.ends(run.within, name)
    say(f"{run.within}/{name}: done in {run.entry(name)['seconds']:.0f} s".removeprefix("/"))
    unsaid(f"{name}: up to date")
    at("")


def common_inputs(recipe: Recipe) -> dict[str, Any]:
    """What every stage depends on: the model, the trigger, the questions."""
    every = recipe.model_dump(mode="json", include={"model", "seed", "trigger", "dtype", "device"})
    every["trigger"] = {key: v for key, v in every["trigger"].items() if v or key != "reply"}
    if asked := recipe.evaluate.questions_file:
        every["questions"] = content_hash(asked)
    if written := recipe.chat_template:
        every["chat template"] = content_hash(Path(written).expanduser()) or written
    return every | {"weights": identity(recipe.model), "offswitch": version("offswitch")}


def _trained(run: Run) -> str:
    return run.outputs_hash(*(f"{TRAIN}/{arm}" for arm in arms_of(run.recipe)))
