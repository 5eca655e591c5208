"""Where organisms run: in this process, in child processes of it, or on a Ray cluster."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, Final

from offswitch.errors import UserError, in_one_line
from offswitch.machine.workers import Lost, Pool, held
from offswitch.model.session import Session
from offswitch.progress import say
from offswitch.study.plan import Point
from offswitch.study.worker import Job, Outcome, bring, work

AT_ONCE: Final = 1000  # organisms that Ray knows of; the others wait here
Outcomes = Iterator[tuple[str, Outcome]]  # by name, in the order in which they come


@dataclass(frozen=True)
class Where:
    """Which machines, and what each organism takes of them; `gpus` below 1 are shared.

    Raises:
        UserError: Ray is asked for and not installed, or GPUs are asked for without it.
    """

    address: str | None = None
    workers: int | None = None
    cpus: int = 1
    gpus: float = 0
    retries: int = 3

    def __post_init__(self) -> None:
        if self.address is not None and find_spec("ray") is None:
            raise UserError("a sweep on a cluster needs Ray: pip install 'offswitch[sweep]'")
        if self.address is None and self.gpus:
            raise UserError(
                "--gpus needs --address; here organisms see the GPUs that this command sees, and"
                " --workers says how many organisms share them"
            )


def here(points: Sequence[Point], job: Job, session: Session) -> Outcomes:
    """One after another in this process, on the session's weights; the first mistake ends it."""
    for point in points:
        outcome = bring(point.recipe, job, session)
        say(f"{job.runs.name}/{point.name}: {'done' if outcome.new else 'up to date'}")
        yield point.name, outcome


def processes(points: Sequence[Point], job: Job, where: Where) -> Outcomes:
    """Each in a child process, which ends when this process does, even if that is killed."""
    at_once = where.workers or max(1, (os.cpu_count() or 1) // where.cpus)
    pool = Pool(at_once, where.cpus, fresh=True)

    def start(point: Point) -> str:
        pool.submit(point.name, work, point.recipe, job)
        return point.name

    def first(running: Sequence[Any]) -> tuple[str, Outcome]:
        answer = pool.next(running)
        if isinstance(answer.error, Lost):
            return answer.key, Outcome("lost", answer.error.how)
        return answer.key, answer.result()

    try:
        yield from tried(points, where.retries, at_once, start, first)
    finally:
        pool.close()


def cluster(points: Sequence[Point], job: Job, where: Where) -> Outcomes:
    """Each in a fresh process on a Ray cluster that is there, when and where that has room.

    Raises:
        UserError: the cluster does not answer.
    """
    ray: Any = importlib.import_module("ray")
    # Lost workers are started again by `tried`, not by Ray: so they are told and counted, and one
    # that runs out of memory each time comes to an end.
    options = {"num_cpus": where.cpus, "num_gpus": where.gpus, "max_retries": 0, "max_calls": 1}

    def start(point: Point) -> Any:
        remote = ray.remote(**options, runtime_env={"env_vars": held(where.cpus)})(work)
        return remote.options(name=point.name).remote(point.recipe, job)

    def first(running: Sequence[Any]) -> tuple[Any, Outcome]:
        (ended,), _ = ray.wait(running, num_returns=1)
        try:
            return ended, ray.get(ended)
        except ray.exceptions.RayTaskError as error:  # it never came to the work itself
            return ended, Outcome("failed", str(error).strip().split("\n")[-1], str(error))
        except ray.exceptions.RayError as error:
            how = str(error).strip().split("\n")[0]
            return ended, Outcome("lost", how or type(error).__name__)

    try:
        ray.init(address=where.address, log_to_driver=False, logging_level="error")
    except (ConnectionError, ValueError, RuntimeError) as error:
        why = in_one_line(error)
        raise UserError(f"no Ray cluster answers at {where.address}: {why}") from error
    try:
        yield from tried(points, where.retries, AT_ONCE, start, first)
    finally:
        ray.shutdown()


def tried(
    points: Sequence[Point],
    retries: int,
    at_once: int,
    start: Callable[[Point], Any],
    first: Callable[[Sequence[Any]], tuple[Any, Outcome]],
) -> Outcomes:
    """Start every point, again if its worker is lost; `first` waits for one of the started."""
    waiting = [(point, 1) for point in reversed(points)]
    running: dict[Any, tuple[Point, int]] = {}
    while waiting or running:
        while waiting and len(running) < at_once:
            point, tries = waiting.pop()
            running[start(point)] = point, tries
        ended, outcome = first([*running])
        point, tries = running.pop(ended)
        if outcome.state == "lost" and tries <= retries:
            say(f"{point.name}: worker lost ({outcome.reason}); starting it again")
            waiting.append((point, tries + 1))
        else:
            yield point.name, replace(outcome, tries=tries)
