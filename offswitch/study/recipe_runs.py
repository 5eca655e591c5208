"""One recipe with its further training seeds and variants, from data to report."""

from __future__ import annotations

from pathlib import Path

from offswitch.metrics import Metrics, read_metrics
from offswitch.model.session import Session
from offswitch.pipeline import evaluate, probe, report, stage
from offswitch.run import EVALUATE, ORGANISMS, PROBE, VARIANTS, Run, withdraw
from offswitch.study.organisms import across_organisms, run_organisms
from offswitch.study.variants import across_variants, run_variants
from offswitch.train.processes import by_first


def run_recipe(run: Run) -> Path:
    """Every stage in turn, for every seed and variant that the recipe names; the report's path."""
    return report(run, variants(run))


def organisms(run: Run, session: Session | None = None) -> Session:
    """Train and measure the recipe's further training seeds, then compare all organisms."""
    session = probe(run, evaluate(run, session))
    if not run.recipe.train.more_seeds:
        by_first(lambda: withdraw(run, ORGANISMS))
        return session
    by_seed = run_organisms(run, session)

    def work(_folder: Path) -> Metrics:
        found = {seed: read_metrics(one.root / "metrics.json") for seed, one in by_seed.items()}
        return across_organisms(found)

    measured = {str(seed): one.outputs_hash(EVALUATE, PROBE) for seed, one in by_seed.items()}
    stage(run, ORGANISMS, {"measured": measured}, work)
    return session


def variants(run: Run, session: Session | None = None) -> Session:
    """Train and evaluate the recipe's variants, then set them beside the run itself."""
    session = organisms(run, session)
    if not run.recipe.variants:
        by_first(lambda: withdraw(run, VARIANTS))
        return session
    by_name = run_variants(run)

    def work(_folder: Path) -> Metrics:
        found = {name: read_metrics(one.root / "metrics.json") for name, one in by_name.items()}
        return across_variants(found)

    measured = {name: one.outputs_hash(EVALUATE) for name, one in by_name.items()}
    stage(run, VARIANTS, {"measured": measured}, work)
    return session
