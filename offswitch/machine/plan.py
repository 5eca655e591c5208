"""What a run does on this machine: number type, processes, threads; chosen once, by measurement.

Evaluation and probes keep the type of the weights, since another one changes their results: of what
is chosen, only processes and threads are theirs too. A run keeps what it chose in its manifest,
since numbers depend on it, if only in their last digits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, get_args

from offswitch.folder import Run, note
from offswitch.folder.provenance import processor
from offswitch.machine.cells import Rates, Shape, Type
from offswitch.machine.estimate import Cost, Setting, after, parts_of
from offswitch.machine.rates import rates_of, settings, usable_cores
from offswitch.machine.workers import is_child
from offswitch.recipe import Recipe, arms_of

TIE: Final = 0.05  # what two measurements of the same differ by on a machine that others share
SPARE: Final = 4e9  # bytes besides two copies of the weights: the demo's training takes 5.0e9


@dataclass(frozen=True)
class Plan:
    """So many processes of so many threads each; `devices` are their GPUs where there are several.

    One process is this one. `precision` is what `train.precision: auto` means, `rates` what it was
    chosen by.
    """

    processes: int = 1
    threads: int = 1
    devices: tuple[str, ...] = ()
    precision: Type = "float32"
    rates: Rates = field(default_factory=Rates)

    def __str__(self) -> str:
        count = f"{self.processes} processes of " if self.processes > 1 else ""
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        return f"{count}{threads}, training in {self.precision}"


def plan_for(run: Run, shape: Callable[[], Shape]) -> Plan:
    """What this process does for a run: what its manifest says, or what is chosen now and kept.

    On another machine than that of the manifest the number type stays, and processes and threads
    are chosen again, as they are where the recipe names others. A process that was started as one
    of several does arms one after another, on the threads that it was given.
    """
    recipe, here = run.recipe, {"processor": processor(), "cores": usable_cores()}
    if not _on_cpu(recipe):
        return _on_gpus(recipe)
    machine = run.manifest().get("machine", {})
    known = machine.get("plan", {})
    if known.get("of") == here and _agrees(recipe, known):
        rates = Rates.from_json(machine["rates"])
        plan = Plan(known["processes"], known["threads"], (), known["precision"], rates)
    else:
        plan = plan_of(recipe, shape, known.get("precision"))
        if plan.rates.figures:
            kept = {key: getattr(plan, key) for key in ("precision", "processes", "threads")}
            note(run, {"plan": kept | {"of": here}, "rates": plan.rates.to_json()})
    return replace(plan, processes=1, threads=_threads()) if _is_one_of_several() else plan


def plan_of(recipe: Recipe, shape: Callable[[], Shape], precision: Type | None = None) -> Plan:
    """The fastest way for a recipe on this machine's processors, as the whole run is foretold.

    Of what is within 5 % of the fastest, float32 is chosen before bfloat16, since it computes what
    the weights say. Then comes the larger number of processes: one thread waits for no other one,
    while of two threads beside other work each step lasts as long as the slower takes (measured:
    67 % of one core). Nothing is measured where there is nothing to choose.
    """
    wanted = precision or recipe.train.precision
    types: tuple[Type, ...] = get_args(Type) if wanted == "auto" else (wanted,)
    tried = _settings(recipe)
    if len(set(tried)) == 1 and len(types) == 1:
        return Plan(*tried[0], precision=types[0])
    model = shape()
    rates = rates_of(model.config)
    parts, order = parts_of(recipe, model), after(recipe)
    seconds: dict[tuple[Type, Setting], float] = {}
    for setting in tried:
        if setting[0] > 1 and setting[0] * (SPARE + 8 * model.size) > _free_memory():
            continue
        for one in types:
            cost = Cost(rates, model, one, setting)
            if cost.is_known:
                seconds[one, setting] = cost.whole(parts, order)
    if not seconds:  # a model that could not be measured
        return Plan(*tried[0], precision="float32" if wanted == "auto" else wanted)
    close = [way for way, time in seconds.items() if time <= min(seconds.values()) * (1 + TIE)]
    best, setting = min(close, key=lambda way: (way[0] != "float32", -way[1][0], seconds[way]))
    return Plan(*setting, precision=best, rates=rates)


def _settings(recipe: Recipe) -> list[Setting]:
    """The processes and threads that a recipe allows here; the usual ones first."""
    most = len(arms_of(recipe)) + 1  # the untrained model is measured too
    cores, threads = usable_cores(), None if recipe.threads == "auto" else recipe.threads
    if "OMP_NUM_THREADS" in os.environ and not threads:
        cores = threads = _threads()
    if _is_one_of_several():
        return [(1, _threads())]
    if recipe.processes != "auto":
        usual = (recipe.processes, threads or max(1, cores // recipe.processes))
        return [usual, *(one for one in settings(cores) if one[0] == usual[0] and not threads)]
    if threads:
        return [(n, threads) for n in dict.fromkeys((1, min(cores // threads, most))) if n]
    return [(1, cores), *(one for one in settings(cores) if one[0] <= most)]


def _agrees(recipe: Recipe, known: Mapping[str, Any]) -> bool:
    """Does a recipe leave open, or name, what is known?"""
    return all(
        asked in ("auto", known[key])
        for key, asked in (("processes", recipe.processes), ("threads", recipe.threads))
    )


def _is_one_of_several() -> bool:
    """Was this process started with others, for a task or by torchrun?"""
    return is_child() or int(os.environ.get("WORLD_SIZE", "1")) > 1


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _free_memory() -> float:
    """Bytes that processes could still take; where the system does not say, enough."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return float("inf")
    return next((1024.0 * int(x.split()[1]) for x in lines if x.startswith("MemAvailable")), 0.0)


def _on_cpu(recipe: Recipe) -> bool:
    import torch

    others = torch.cuda.is_available() or torch.backends.mps.is_available()
    return recipe.device == "cpu" or (recipe.device == "auto" and not others)


def _on_gpus(recipe: Recipe) -> Plan:
    """An arm each on several GPUs; one after another on one for all, and on Apple's."""
    import torch

    threads = torch.get_num_threads()
    count = torch.cuda.device_count() if recipe.device != "mps" else 0
    if count < 2 or _is_one_of_several():
        return Plan(threads=threads)
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    gpus = tuple(named[:count] if named else map(str, range(count)))
    at_once = sum(before is None for before in after(recipe).values())
    processes = min(at_once if recipe.processes == "auto" else recipe.processes, count)
    share = max(1, threads // processes) if recipe.threads == "auto" else recipe.threads
    return Plan(processes, share, gpus if processes > 1 else ())
