"""metrics.json: every number once, each with its interval, count, unit, null and controls."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from offswitch.stats import Estimate, Null


@dataclass(frozen=True)
class Metric:
    """A number that does not stand alone; where nothing was sampled, low = value = high."""

    estimate: Estimate
    null: Null | None = None
    controls: Mapping[str, float] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """The metric as metrics.json holds it; absent parts are omitted."""
        e = self.estimate
        row: dict[str, Any] = {
            "value": e.value,
            "low": e.low,
            "high": e.high,
            "n": e.n,
            "unit": e.unit,
        }
        if self.null is not None:
            row["null"] = {"q95": self.null.q95, "p": self.null.p, "n": self.null.n}
        if self.controls:
            row["controls"] = dict(self.controls)
        return row


Metrics = dict[str, Metric]


def exact(value: float, unit: str, n: int = 1) -> Metric:
    """A number that is what it is: counted or computed once, nothing sampled."""
    return Metric(Estimate(value, value, value, n, unit))


def with_controls(
    metrics: Metrics, arm: str, controls: Iterable[str], stage: str = "evaluate"
) -> Metrics:
    """The arm's metrics, each beside the same measure on the control arms."""
    beside = {}
    for key, metric in metrics.items():
        rest = key.removeprefix(f"{stage}/{arm}/")
        others = {c: f"{stage}/{c}/{rest}" for c in controls if c != arm}
        if key.startswith(f"{stage}/{arm}/"):
            found = {c: metrics[k].estimate.value for c, k in others.items() if k in metrics}
            beside[key] = replace(metric, controls={**metric.controls, **found})
    return beside


def write_metrics(path: Path, metrics: Metrics) -> None:
    """One stage's metrics as JSON, keys sorted."""
    rows = {key: metrics[key].row() for key in sorted(metrics)}
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_metrics(path: Path) -> dict[str, Any]:
    """The metrics of a stage or of a whole run, as plain JSON; empty where the file is absent."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return content
