"""One organism brought up to date, and what became of it."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from offswitch.analyses.judge import judge
from offswitch.errors import UserError, quiet
from offswitch.folder import Run, open_run
from offswitch.metrics import read_metrics
from offswitch.model.session import Session
from offswitch.pipeline import evaluate, probe, report
from offswitch.recipe import Recipe
from offswitch.train.processes import by_first

UpTo = Callable[[Run, Session], object]


@dataclass(frozen=True)
class Job:
    """What is done for every organism: some stages, in a run folder below `runs`."""

    runs: Path
    up_to: UpTo
    update: bool = True
    started_in: Path = field(default_factory=Path.cwd)  # a recipe's paths are relative to it


@dataclass(frozen=True)
class Outcome:
    """What became of an organism: `refused` is the user's mistake, `failed` a fault of ours.

    `lost` is a worker that ended without a word, on its last try. `new` says that anything was
    done; `seconds` are those of the last try, of `tries`; it computed on so many `threads`.
    """

    state: Literal["finished", "refused", "failed", "lost"]
    reason: str = ""
    trace: str = ""
    new: bool = False
    seconds: float = 0
    tries: int = 1
    threads: int = 0
    metrics: Mapping[str, Any] = field(default_factory=dict)


def probed(run: Run, session: Session) -> Session:
    """Evaluate and probe a run."""
    return probe(run, evaluate(run, session))


UP_TO: Final[dict[str, UpTo]] = {"evaluate": evaluate, "probe": probed, "report": report}


def bring(recipe: Recipe, job: Job, session: Session | None = None) -> Outcome:
    """Bring an organism up to date, on the session's copy of the weights where that suits it."""
    opened = by_first(lambda: open_run(recipe, job.runs, job.update))
    run = replace(opened, within=f"{job.runs.name}/{recipe.name}")
    before = run.manifest()
    shared = session is not None and session.suits(recipe)
    with session.lent_to(run) if session and shared else nullcontext(Session(run)) as own:
        job.up_to(run, own)
    torch: Any = sys.modules.get("torch")  # not imported where nothing had to be computed
    threads = int(torch.get_num_threads()) if torch else 0
    verdicts = {f"verdict/{arm}": found.row() for arm, found in judge(run.root).items()}
    metrics, new = read_metrics(run.root / "metrics.json") | verdicts, run.manifest() != before
    return Outcome("finished", new=new, threads=threads, metrics=metrics)


def work(recipe: Recipe, job: Job) -> Outcome:
    """Bring an organism up to date in a process of its own; it never raises."""
    clock = time.perf_counter()
    try:
        quiet()
        if job.started_in.is_dir():
            os.chdir(job.started_in)
        outcome = bring(recipe, job)
    except UserError as error:
        outcome = Outcome("refused", str(error))
    except Exception as error:
        first = str(error).strip().split("\n")[0]
        outcome = Outcome("failed", f"{type(error).__name__}: {first}", traceback.format_exc())
    return replace(outcome, seconds=round(time.perf_counter() - clock, 2))
