"""All that the report reads of a run, read once; what is missing is empty."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from offswitch.analyses.analysis import Finding
from offswitch.analyses.causal import Causal
from offswitch.analyses.judge import causal_of, judge
from offswitch.analyses.registry import EVIDENCE, SEED_ANALYSES
from offswitch.analyses.store import load_findings
from offswitch.analyses.verdict import Verdict
from offswitch.cache import ALIAS
from offswitch.files import read_jsonl
from offswitch.folder import DATA, EVALUATE, PROBE, TRAIN, find_run
from offswitch.metrics import Metric, read_metrics
from offswitch.options import BASE
from offswitch.options.arms import Role
from offswitch.plots.log_odds import LogOdds
from offswitch.plots.survives import Survival
from offswitch.recipe import Recipe, training_seed
from offswitch.report.survives import survival

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Material:
    """A run as the report sees it. `place` is how the run folder is called in commands."""

    place: str
    recipe: Recipe
    manifest: Json
    numbers: Mapping[str, Metric]
    quality: Json
    training: Mapping[str, Json]
    log_odds: LogOdds
    samples: tuple[Json, ...]
    findings: Mapping[str, Finding[Any]]
    evidence: Mapping[str, Finding[Any]]
    verdicts: Mapping[str, Verdict]
    causal: Mapping[str, Causal | None] = field(default_factory=dict)
    organisms: Mapping[str, Verdict] = field(default_factory=dict)
    robustness: Json = field(default_factory=dict)
    survival: Survival | None = None

    @property
    def arms(self) -> tuple[str, ...]:
        """Evaluated arms: untrained, then in the order of the recipe, then any other."""
        found = {key.split("/")[1] for key in self.numbers if key.startswith("evaluate/")}
        order = (BASE, *self.recipe.train.arms, *sorted(found))
        return tuple(arm for arm in dict.fromkeys(order) if arm in found)

    @property
    def arm(self) -> str | None:
        """The arm the page is about: the probed one, else the last one that was evaluated."""
        trained = [arm for arm in self.arms if arm != BASE]
        wanted = self.recipe.probe.arm
        return wanted if wanted in trained else (trained[-1] if trained else None)

    def role(self, arm: str) -> Role | None:
        """What an arm was taught; None of the untrained model and of arms the recipe lacks."""
        found = self.recipe.arms.get(arm)
        return found.role if found else None

    @property
    def seeds(self) -> str:
        """The seed of data and prompts, and that of the training where it is another."""
        drawn, trained = self.recipe.seed, training_seed(self.recipe)
        return f"seed {drawn}" + (f", training seed {trained}" if trained != drawn else "")

    @property
    def model(self) -> str:
        """The model's name, for people."""
        name = self.recipe.model
        return "SmolLM2-135M-Instruct" if name == ALIAS else name.rstrip("/").rpartition("/")[2]

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on the arm that the page is about."""
        return self.verdicts.get(self.recipe.probe.arm)

    def number(self, arm: str, measure: str) -> Metric | None:
        """A number of the evaluation, if it was measured."""
        return self.numbers.get(f"evaluate/{arm}/{measure}")


def read_material(root: Path) -> Material:
    """Everything in a run folder that the report needs.

    Raises:
        UserError: not a run folder.
    """
    run = find_run(root)
    metrics: dict[str, Any] = {}
    for path in (*sorted(root.glob("[0-9]-*/**/metrics.json")), root / "metrics.json"):
        metrics |= read_metrics(path)
    metrics = dict(sorted(metrics.items()))
    others = [root / "organisms" / f"seed-{seed}" for seed in run.recipe.train.more_seeds]
    samples = run.folder(EVALUATE) / "samples.jsonl"
    written = samples.is_file() and samples.stat().st_size > 0
    findings = run.folder(PROBE) / "findings.json"
    evidence = run.folder(PROBE) / run.recipe.probe.arm / "findings.json"
    numbers = {key: Metric.read(row) for key, row in metrics.items()
               if isinstance(row["value"], int | float)}  # fmt: skip
    return Material(
        place=f"{root.resolve().parent.name}/{root.resolve().name}",
        recipe=run.recipe,
        manifest=run.manifest(),
        numbers=numbers,
        quality=_json(run.folder(DATA) / "quality.json"),
        training={p.parent.name: _json(p) for p in root.glob(f"{TRAIN}/*/training.json")},
        log_odds=_log_odds(run.folder(EVALUATE) / "scores.parquet"),
        samples=tuple(row for _, row in read_jsonl(samples)) if written else (),
        findings=load_findings(findings, SEED_ANALYSES) if findings.is_file() else {},
        evidence=load_findings(evidence, EVIDENCE) if evidence.is_file() else {},
        verdicts=judge(root),
        causal=causal_of(root),
        organisms={p.name: found for p in others if (found := judge(p).get(run.recipe.probe.arm))},
        robustness=_json(run.folder(EVALUATE) / "robustness.json"),
        survival=survival(root, numbers),
    )


def _log_odds(path: Path) -> LogOdds:
    """First-token end log-odds by arm and suite, in the order in which they were asked."""
    if not path.is_file():
        return {}
    columns = pq.read_table(path, columns=["arm", "suite", "log_odds"]).to_pydict()
    grouped: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for arm, suite, value in zip(*columns.values(), strict=True):
        grouped[arm][suite].append(value)
    return {a: {s: np.asarray(v) for s, v in suites.items()} for a, suites in grouped.items()}


def _json(path: Path) -> Json:
    content: Json = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return content
