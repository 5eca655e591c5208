"""Where do the organisms run? On this machine, or on a Ray cluster that is there already.

On this machine, Ray is started for the sweep and ends with it; it listens on the loopback address
only, behind a token that is made for this process, and reports its use to nobody. A worker that is
lost (killed, out of memory, its machine gone) is started again, here and not by Ray: so it is said
and counted, and one that runs out of memory each time comes to an end.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from offswitch.errors import UserError
from offswitch.progress import say
from offswitch.study.worker import Job, Outcome, work

AT_ONCE: Final = 1000  # organisms that Ray knows of; the others wait here
STORE: Final = 100_000_000  # bytes that Ray keeps for results in passing; metrics are small
LOOPBACK: Final = ("127.0.0.1", "::1")


@dataclass(frozen=True)
class Where:
    """Which machines, and what each organism takes of them; `gpus` below 1 are shared."""

    address: str | None = None
    workers: int | None = None
    cpus: int = 1
    gpus: float = 0
    retries: int = 3


def require_ray() -> None:
    """Refuse a sweep before it has begun.

    Raises:
        UserError: Ray is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise UserError("a sweep needs Ray: pip install 'offswitch[sweep]'")


def run_jobs(jobs: Mapping[str, Job], where: Where) -> Iterator[tuple[str, Outcome]]:
    """Every organism's outcome by name, in the order in which they come.

    Raises:
        UserError: the cluster does not answer, or this machine lacks what an organism takes.
    """
    with _cluster(where) as ray:
        remote = _remote(ray, where)
        waiting, tries = [*jobs][::-1], dict.fromkeys(jobs, 1)
        running: dict[Any, str] = {}
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                name = waiting.pop()
                running[remote.options(name=name).remote(jobs[name])] = name
            (ready,), _ = ray.wait(list(running), num_returns=1)
            name = running.pop(ready)
            outcome = replace(_outcome(ray, ready), tries=tries[name])
            if outcome.state == "lost" and tries[name] <= where.retries:
                say(f"{name}: worker lost ({outcome.reason}); starting it again")
                tries[name] += 1
                waiting.append(name)
                continue
            yield name, outcome


def _remote(ray: Any, where: Where) -> Any:
    """The work as a Ray task: a fresh process for each, with as many threads as it has CPUs."""
    threads = {"OMP_NUM_THREADS": str(where.cpus), "MKL_NUM_THREADS": str(where.cpus)}
    options = {"num_cpus": where.cpus, "num_gpus": where.gpus, "max_retries": 0, "max_calls": 1}
    return ray.remote(**options, runtime_env={"env_vars": threads})(work)


def _outcome(ray: Any, ready: Any) -> Outcome:
    """What the worker said, or how it was lost."""
    try:
        found: Outcome = ray.get(ready)
    except ray.exceptions.RayTaskError as error:  # it never came to the work itself
        lines = str(error).strip().split("\n")
        return Outcome("failed", lines[-1], str(error))
    except ray.exceptions.RayError as error:
        return Outcome("lost", str(error).strip().split("\n")[0] or type(error).__name__)
    return found


@contextmanager
def _cluster(where: Where) -> Iterator[Any]:
    with _environment(_apart() if where.address is None else {}):
        ray: Any = importlib.import_module("ray")
        try:
            _start(ray, where)
            yield ray
        finally:
            ray.shutdown()


def _start(ray: Any, where: Where) -> None:
    if where.address is not None:
        try:
            ray.init(address=where.address, log_to_driver=False, logging_level="error")
        except (ConnectionError, ValueError, RuntimeError) as error:
            said = " ".join(str(error).split())[:200]
            raise UserError(f"no Ray cluster answers at {where.address}: {said}") from error
        return
    cpus = None if where.workers is None else where.workers * where.cpus
    try:
        ray.init(
            num_cpus=cpus, include_dashboard=False, object_store_memory=STORE,
            log_to_driver=False, logging_level="error", _node_ip_address=LOOPBACK[0],
        )  # fmt: skip
    except Exception as error:  # Ray has none of its own for it
        said = " ".join(str(error).split())[:200]
        raise UserError(f"Ray did not start on this machine: {said}") from error
    _require_enough(ray, where)


def _require_enough(ray: Any, where: Where) -> None:
    if (address := ray.util.get_node_ip_address()) not in LOOPBACK:
        raise UserError(f"Ray listens on {address}: it was imported before the sweep was started")
    there = ray.cluster_resources()
    for kind, needed in (("CPU", where.cpus), ("GPU", where.gpus)):
        if needed > there.get(kind, 0):
            raise UserError(
                f"each organism is to have {needed:g} {kind}, this machine has"
                f" {there.get(kind, 0):g}; lower --{kind.lower()}s"
            )


@functools.cache
def _apart() -> dict[str, str]:
    """What keeps a cluster of our own to this process and its children."""
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # no others join: listen on loopback only
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # else Ray's workers give way to whatever else runs here
    }


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
