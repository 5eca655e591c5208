"""One organism, in a process of its own: brought up to date as `offswitch run` would, and reported.

The process is started for the organism and ends with it, so that its memory, threads and locks are
its own. A mistake of the user's is an outcome like another: it does not stop the other organisms.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from offswitch import pipeline
from offswitch.errors import UserError, quiet
from offswitch.metrics import read_metrics
from offswitch.recipe import Recipe
from offswitch.run import Run, open_run
from offswitch.study.plan import Stage

State = Literal["finished", "refused", "failed", "lost"]

UP_TO: Final[dict[Stage, Callable[[Run], object]]] = {
    "evaluate": pipeline.evaluate,
    "probe": lambda run: pipeline.probe(run, pipeline.evaluate(run)),
    "report": pipeline.report,
}


@dataclass(frozen=True)
class Job:
    """What a worker is told: the recipe, where run folders are, how far, from which folder."""

    recipe: Recipe
    runs: Path
    stage: Stage
    update: bool
    started_in: Path


@dataclass(frozen=True)
class Outcome:
    """What became of an organism: `refused` is the user's mistake, `failed` a fault of ours.

    `lost` is a worker that ended without a word, as often as it may. `new` says that anything was
    done; `seconds` are those of the last try, of `tries`; it computed on so many `threads`.
    """

    state: State
    reason: str = ""
    trace: str = ""
    new: bool = False
    seconds: float = 0
    tries: int = 1
    threads: int = 0
    metrics: Mapping[str, Any] = field(default_factory=dict)


def work(job: Job) -> Outcome:
    """Bring one organism up to date; raises nothing, so that no organism stops another."""
    clock = time.perf_counter()
    try:
        outcome = _work(job)
    except UserError as error:
        outcome = Outcome("refused", str(error))
    except Exception as error:
        said = str(error).strip().split("\n")[0]
        outcome = Outcome("failed", f"{type(error).__name__}: {said}", traceback.format_exc())
    return replace(outcome, seconds=round(time.perf_counter() - clock, 2))


def _work(job: Job) -> Outcome:
    quiet()
    if job.started_in.is_dir():  # paths in a recipe are relative to where the sweep was started
        os.chdir(job.started_in)
    opened = open_run(job.recipe, job.runs, job.update)
    run = replace(opened, within=job.recipe.name)
    before = run.manifest()
    UP_TO[job.stage](run)
    metrics, new = read_metrics(run.root / "metrics.json"), run.manifest() != before
    return Outcome("finished", new=new, threads=_threads(), metrics=metrics)


def _threads() -> int:
    """On how many threads torch computes here; 0 where nothing had to be computed."""
    torch: Any = sys.modules.get("torch")
    return int(torch.get_num_threads()) if torch else 0
