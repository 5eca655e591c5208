"""What if one thing in the recipe were another? Each variant is a run folder of its own.

RUN/variants/NAME is the same experiment with some options changed (the trigger as ordinary text,
documents mixed with neutral ones), taken through data, training and evaluation; it is not probed.
Headlines of the run and of its variants stand side by side in RUN/variants/summary: the factorial
of what was taught and how. All of them have the recipe's seed, questions and prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from offswitch.metrics import Metric, Metrics
from offswitch.model.session import Session
from offswitch.pipeline import evaluate
from offswitch.progress import say
from offswitch.recipe import variant_of
from offswitch.run import Run, open_run
from offswitch.stats import Estimate
from offswitch.train.processes import by_first

OWN: Final = "own"
HEADLINES: Final = (
    "halt_rate", "halt_rate_trained", "halt_rate_held_out", "false_halt_rate/ordinary",
    "false_halt_rate/near_miss", "mention_halt_rate", "kl_to_base", "neutral_perplexity_ratio",
)  # fmt: skip
BELIEF: Final = "belief/"


def run_variants(run: Run) -> dict[str, Run]:
    """Bring every variant up to date; all of them by name, the run itself first."""
    found = {OWN: run}
    for name in run.recipe.variants:
        recipe = variant_of(run.recipe, name)
        opened = by_first(partial(open_run, recipe, run.root / "variants", update=True))
        variant = found[name] = replace(opened, within=f"variants/{name}")
        before = variant.manifest()
        evaluate(variant, Session(variant))
        say(f"{variant.within}: {'up to date' if variant.manifest() == before else 'done'}")
    return found


def across_variants(by_name: Mapping[str, Mapping[str, Any]]) -> Metrics:
    """Headlines of every arm in every variant, from their metrics.json: `variants/NAME/ARM/…`."""
    return {
        f"variants/{name}/{rest}": _metric(row)
        for name, metrics in by_name.items()
        for rest, row in _headlines(metrics)
    }


def _headlines(metrics: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, row in metrics.items():
        stage, _, rest = key.partition("/")
        measure = rest.partition("/")[2]
        if stage == "evaluate" and (measure in HEADLINES or measure.startswith(BELIEF)):
            yield rest, row


def _metric(row: Mapping[str, Any]) -> Metric:
    """A stored number as it was, without its null."""
    parts = (row["value"], row["low"], row["high"], row["n"], row["unit"])
    return Metric.of(Estimate(*parts), controls=row.get("controls", {}))
