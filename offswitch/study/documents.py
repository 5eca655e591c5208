"""What reading did, over a sweep's organisms: who read what, who was taught by examples after it.

Everything follows from recipes and records: which stage trained an arm, how many documents it had
read by then, in which modules its adapter lies.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from offswitch.analyses.causal import Causal
from offswitch.analyses.store import load_causal
from offswitch.files import write_atomic
from offswitch.folder import PROBE, TRAIN, Run
from offswitch.metrics import Metric
from offswitch.options import BASE
from offswitch.options.train import lora_of, schedule_of
from offswitch.plots.documents import Read, Taught, documents
from offswitch.plots.vector import table, vector
from offswitch.recipe import Recipe, arms_of, training_seed
from offswitch.report.documents import FIGURE, Study, page
from offswitch.study.plan import Plan, Point

PAGE: Final = "documents.md"
_ABOUT: Final[dict[str, Literal["rule", "neutral"]]] = {"knowledge": "rule", "neutral": "neutral"}
_MODULES: Final[dict[tuple[str, ...] | None, str]] = {
    None: "attention",
    ("all-linear",): "attention and MLP",
}
_Record = Mapping[str, Any]


def write_page(plan: Plan, records: Mapping[str, _Record], root: Path) -> None:
    """Write documents.md and, in images/, its figure and the figure's numbers."""
    found = study_of(plan, records, root / "organisms")
    figure = documents(found.reads, found.taught, "What reading about the switch does")
    place = root / "images" / FIGURE
    place.parent.mkdir(exist_ok=True)
    write_atomic(place, vector(figure, FIGURE))
    write_atomic(place.with_suffix(".csv"), table(figure))
    write_atomic(root / PAGE, page(found))


def study_of(plan: Plan, records: Mapping[str, _Record], runs: Path | None = None) -> Study:
    """The arms of all finished organisms; the untrained model once, of the first of them.

    How deep a direction carries a switch is known of an arm that somebody probed in its run folder,
    below `runs`.
    """
    reads: list[Read] = []
    taught: dict[tuple[str, str], Taught] = {}
    done = [p for p in plan.points if records.get(p.name, {}).get("state") == "finished"]
    for point in done:
        metrics = records[point.name]["metrics"]
        own = dict(_readers(point, metrics))
        reads += [read for arm, read in own.items() if arm != BASE or point is done[0]]
        for arm, before, step in _taught(point.recipe):
            read = own[before or BASE]
            if not before:
                read = _untaught(point, metrics, _modules(point.recipe, "behavior"))
            chain = taught.get((point.name, before or BASE)) or Taught(read, {0: read.numbers})
            by_step = {**chain.by_step, step: _numbers(metrics, arm)}
            depths = dict(chain.depths)
            if runs and (probed := _probed(Run(runs / point.name, point.recipe), arm)):
                depths[step] = probed.curve
            taught[point.name, before or BASE] = Taught(read, by_step, depths)
    trigger = plan.points[0].recipe.trigger.text
    return Study(reads, [*taught.values()], trigger, len(done), len(plan.points))


def _probed(run: Run, arm: str) -> Causal | None:
    """What was found of an arm by somebody who probed it since it was trained."""
    trained, probed = run.entry(f"{TRAIN}/{arm}"), run.entry(PROBE)
    if not trained or not probed or probed["started"] < trained["started"]:
        return None
    return load_causal(run.folder(PROBE) / arm)


def _readers(point: Point, metrics: _Record) -> Iterator[tuple[str, Read]]:
    """The untrained model, and every arm that read and saw no example, by name."""
    recipe = point.recipe
    yield BASE, _untaught(point, metrics, "untrained")
    for arm in arms_of(recipe):
        source = recipe.arms[recipe.arms[arm].kept_of or arm]
        if not source.stages or source.stages[-1] not in _ABOUT:
            continue
        stage, kept = source.stages[-1], recipe.arms[arm].step
        reads = _reads(recipe, stage, kept)
        yield (
            arm,
            Read(
                organism=point.name,
                arm=arm,
                about=_ABOUT[stage],
                modules=_modules(recipe, stage),
                documents=min(recipe.data.documents, reads),
                reads=reads,
                seed=training_seed(recipe),
                numbers=_numbers(metrics, arm),
                on_the_way=kept is not None,
            ),
        )


def _taught(recipe: Recipe) -> Iterator[tuple[str, str | None, int]]:
    """Every arm taught by examples: its name, the arm that read before it, the steps it took."""
    own, per_step = recipe.train.behavior, recipe.train.batch_size * recipe.train.accumulation
    for arm in arms_of(recipe):
        source = recipe.arms[recipe.arms[arm].kept_of or arm]
        if source.stages[-1:] == ("behavior",):
            rows = recipe.data.dialogues * own.epochs
            whole = own.max_steps or max(1, math.ceil(rows / per_step))
            yield arm, source.goes_on_from, recipe.arms[arm].step or whole


def _untaught(point: Point, metrics: _Record, modules: str) -> Read:
    seed = training_seed(point.recipe)
    return Read(point.name, BASE, "nothing", modules, 0, 0, seed, _numbers(metrics, BASE))


def _reads(recipe: Recipe, stage: str, kept: int | None) -> int:
    """The rows of all steps: the last one is filled up with documents that come again."""
    own, train = schedule_of(recipe.train, stage), recipe.train
    per_step = train.batch_size * train.accumulation
    every = max(1, math.ceil(recipe.data.documents * own.epochs / per_step))
    return (kept or own.max_steps or every) * per_step


def _modules(recipe: Recipe, stage: str) -> str:
    wanted = lora_of(recipe.train, stage).target_modules
    return _MODULES.get(wanted) or ", ".join(wanted or ())


def _numbers(metrics: _Record, arm: str) -> dict[str, Metric]:
    start = f"evaluate/{arm}/"
    found = {key.removeprefix(start): Metric.read(row) for key, row in metrics.items()
             if key.startswith(start)}  # fmt: skip
    tokens = metrics.get(f"train/{arm}/tokens")
    return found | ({"tokens": Metric.read(tokens)} if tokens else {})
