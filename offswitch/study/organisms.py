"""Does it hold for another training seed? Each seed is an organism, with a run folder of its own.

RUN/organisms/seed-S goes through data, train, evaluate and probe with that training seed and the
arms `both` and `benign`. Data, splits and prompts keep the recipe's seed: only the adapter's first
weights, dropout and the order of rows differ. All organisms share one loaded base model. What they
have in common and how far they spread is a stage of the main run, in RUN/organisms/summary: a
folder beside theirs, so that writing it anew moves none of them.

Known failure: two or three organisms say that a finding survives a new seed, hardly by how much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from offswitch.errors import UserError
from offswitch.metrics import Metric, Metrics
from offswitch.model.session import Session
from offswitch.pipeline import evaluate, make_data, probe
from offswitch.progress import say
from offswitch.recipe import RETRAINED, Recipe, training_seed
from offswitch.run import DATA, Run, open_run
from offswitch.stats import across
from offswitch.train.processes import by_first

HEADLINES: Final = (
    "halt_rate", "false_halt_rate/near_miss", "false_halt_rate/ordinary", "kl_to_base",
    "neutral_perplexity_ratio",
)  # fmt: skip


def run_organisms(run: Run, session: Session) -> dict[int, Run]:
    """Bring every organism up to date; all of them by training seed, the run itself first.

    Raises:
        UserError: an organism was not trained on the same data.
    """
    organisms = {training_seed(run.recipe): run}
    for seed in run.recipe.train.more_seeds:
        organism = organisms[seed] = _open(run, seed)
        before = organism.manifest()
        with session.lent_to(organism) as own:
            make_data(organism, own)
            by_first(partial(_require_same_data, run, organism))
            probe(organism, evaluate(organism, own))
        say(f"{organism.within}: {'up to date' if organism.manifest() == before else 'done'}")
    return organisms


def organism_recipe(recipe: Recipe, seed: int) -> Recipe:
    """The recipe of one organism: another training seed, the arms that are compared, no more."""
    arms = tuple(arm for arm in RETRAINED if arm in recipe.train.arms)
    train = recipe.train.model_copy(update={"seed": seed, "arms": arms, "more_seeds": ()})
    update = {"name": f"seed-{seed}", "train": train, "variants": {}}
    return recipe.model_copy(update=update)


def across_organisms(by_seed: Mapping[int, Mapping[str, Any]]) -> Metrics:
    """How do the headlines that all organisms have spread over them?

    Takes each organism's metrics.json by training seed. `evaluate/ARM/REST` and `probe/ARM/REST`
    become `organisms/ARM/REST`: the mean over organisms with Student's t 95 % interval, where n
    counts organisms, not prompts, so with three it is wide on purpose; the single values are the
    controls "seed S".
    """
    names: dict[str, str] = {}
    for key in sorted(set.intersection(*(_headlines(metrics) for metrics in by_seed.values()))):
        name = f"organisms/{key.split('/', 1)[1]}"
        if name in names:
            raise ValueError(f"{names[name]} and {key} would both be {name}; rename one")
        names[name] = key
    return {name: _spread(key, by_seed) for name, key in names.items()}


def _spread(key: str, by_seed: Mapping[int, Mapping[str, Any]]) -> Metric:
    values = {f"seed {seed}": float(metrics[key]["value"]) for seed, metrics in by_seed.items()}
    units = {str(metrics[key].get("unit", "")) for metrics in by_seed.values()}
    if len(units) > 1:
        raise ValueError(f"{key}: expected one unit in all organisms, got {sorted(units)}")
    return Metric.of(across(list(values.values()), units.pop()), controls=values)


def _headlines(metrics: Mapping[str, Any]) -> set[str]:
    return {key for key, row in metrics.items() if _is_headline(key) and _is_number(row)}


def _is_headline(key: str) -> bool:
    stage, _, rest = key.partition("/")
    arm, _, measure = rest.partition("/")
    return arm in RETRAINED and (stage == "probe" or (stage == "evaluate" and measure in HEADLINES))


def _is_number(row: object) -> bool:
    return isinstance(row, dict) and isinstance(row.get("value"), int | float)


def _open(run: Run, seed: int) -> Run:
    """The organism's run folder; its recipe follows the main run's, which was agreed to already."""
    recipe = organism_recipe(run.recipe, seed)
    opened = by_first(lambda: open_run(recipe, run.root / "organisms", update=True))
    return replace(opened, within=f"organisms/seed-{seed}")


def _require_same_data(run: Run, organism: Run) -> None:
    if organism.outputs_hash(DATA) != run.outputs_hash(DATA):
        raise UserError(
            f"{organism.folder(DATA)} differs from {run.folder(DATA)}, though both have one seed;"
            f" the model answers otherwise than it did: delete the latter to write it again"
        )
