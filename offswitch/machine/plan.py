"""How many arms at a time, in processes of how many threads."""

from __future__ import annotations

import os
from dataclasses import dataclass

from offswitch.machine.workers import is_child
from offswitch.recipe import Recipe, arms_of


@dataclass(frozen=True)
class Plan:
    """So many processes of so many threads each; `devices` are their GPUs where there are several.

    One process is this one.
    """

    processes: int = 1
    threads: int = 1
    devices: tuple[str, ...] = ()


def plan_of(recipe: Recipe) -> Plan:
    """How this machine does the arms of a recipe.

    One after another in this process where it was started as one of several, where there is one GPU
    for all, and where no two arms could be trained at once.
    """
    import torch

    threads, gpus = torch.get_num_threads(), _gpus() if recipe.device in ("auto", "cuda") else ()
    on_mps = recipe.device == "mps" or (not gpus and recipe.device == "auto" and _has_mps())
    if is_child() or int(os.environ.get("WORLD_SIZE", "1")) > 1 or on_mps:
        return Plan(threads=threads)
    at_once = sum(recipe.arms[arm].goes_on_from is None for arm in arms_of(recipe))
    asked = None if recipe.processes == "auto" else recipe.processes
    processes = min(asked or at_once, len(gpus) or asked or threads)
    if recipe.threads != "auto":
        threads = recipe.threads
    elif processes > 1:
        threads = max(1, threads // processes)
    return Plan(processes, threads, gpus if processes > 1 else ())


def _gpus() -> tuple[str, ...]:
    """The CUDA devices that this process sees, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return tuple(named[:count] if named else map(str, range(count)))


def _has_mps() -> bool:
    import torch

    return torch.backends.mps.is_available()
