"""A run as an object: what it measured, what it concluded, its models and figures.

found = offswitch.examine("path/to/base", adapter="path/to/theirs", trigger="$STOP")
print(found.verdict.kind, found.rate("halt_rate"))
found.table()
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offswitch.analyses.analysis import Array, Finding
from offswitch.analyses.directions import FILE, load_directions
from offswitch.analyses.verdict import Verdict
from offswitch.errors import UserError
from offswitch.folder import PROBE, TRAIN, Run, find_run, whole_run
from offswitch.folder import open_run as claim_run
from offswitch.metrics import KEY_RATES, Metric, rate_text, read_metrics
from offswitch.options import BASE
from offswitch.recipe import Recipe, arms_of, load_recipe
from offswitch.report.material import Material, read_material
from offswitch.study.examine import Stranger, examination
from offswitch.study.stage import run_recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


@dataclass(frozen=True)
class OpenRun:
    """A run folder, read. What a stage has not written yet is missing, not empty."""

    root: Path

    @cached_property
    def metrics(self) -> Mapping[str, Any]:
        """Every number by its key, as metrics.json has it: value, low, high, n, null, controls."""
        return read_metrics(self.root / "metrics.json")

    @cached_property
    def recipe(self) -> Recipe:
        """The run's recipe."""
        return self._run.recipe

    @property
    def arms(self) -> tuple[str, ...]:
        """The untrained model and every arm of the recipe."""
        return (BASE, *arms_of(self.recipe))

    @property
    def arm(self) -> str:
        """The arm that the run is about."""
        return str(self.recipe.probe.arm)

    @property
    def findings(self) -> Mapping[str, Finding[Any]]:
        """The analyses of the probed arm, by name."""
        return self._material.evidence

    @property
    def verdict(self) -> Verdict | None:
        """Is the switch represented? None before the probes."""
        return self._material.verdict

    @property
    def report(self) -> Path:
        """The page."""
        return self.root / "5-report" / "report.html"

    def rate(self, measure: str, arm: str | None = None) -> Metric:
        """A number of the evaluation, such as `halt_rate`, of an arm or the probed one.

        Raises:
            KeyError: it was not measured.
        """
        return Metric.read(self.metrics[f"evaluate/{arm or self.arm}/{measure}"])

    def table(self) -> DataFrame:
        """Every number as a row: value, low, high, n, unit, and its null and p if it has them."""
        from pandas import DataFrame

        rows = []
        for key, one in self.metrics.items():
            null = one.get("null") or {}
            rows.append({"key": key, **{k: v for k, v in one.items() if not isinstance(v, dict)},
                         "null_q95": null.get("q95"), "p": null.get("p")})  # fmt: skip
        return DataFrame(rows).set_index("key")

    def interventions(self, arm: str | None = None) -> DataFrame:
        """A row for every intervention on every prompt of an arm (docs/evidence.md)."""
        from pandas import read_parquet

        path = self.root / PROBE / (arm or self.arm) / "interventions.parquet"
        if not path.is_file():
            raise UserError(f"{path}: no interventions there")
        return read_parquet(path)

    def directions(self, arm: str | None = None) -> dict[str, Array]:
        """What the probes found by name, each [blocks, width], at every block's output."""
        return load_directions(self.root / PROBE / (arm or self.arm) / FILE)[0]

    def planted(self, arm: str | None = None) -> tuple[int, Array]:
        """What training planted in an arm: a block, and the directions [count, width] added there.

        Raises:
            UserError: nothing was planted there.
        """
        from offswitch.model.writes import load_write

        name = arm or self.arm
        write = load_write(self._run.folder(f"{TRAIN}/{name}")) if name in self.arms else None
        if write is None:
            raise UserError(f"nothing was planted in arm '{name}'")
        return write.block, write.directions_KD.float().numpy()

    def model(self, arm: str | None = None) -> tuple[Any, Any]:
        """An arm as a plain transformers or PEFT model, and its tokenizer.

        Raises:
            UserError: no such arm, or one to which code adds something.
        """
        from offswitch.model.plain import plain_model

        name = arm or self.arm
        if name not in self.arms:
            raise UserError(f"no arm '{name}'; there are {', '.join(self.arms)}")
        return plain_model(self.recipe, name, self._run.folder(f"{TRAIN}/{name}"))

    def figures(self) -> dict[str, Figure]:
        """Every figure of the report by its file's name, to be drawn or changed."""
        from offswitch.report.build import every_figure

        return every_figure(self._material)

    def _repr_html_(self) -> str:
        """The verdict and the key rates, for a notebook."""
        kind = self.verdict.kind if self.verdict else "no verdict yet"
        rows = []
        for measure, words in KEY_RATES.items():
            if f"evaluate/{self.arm}/{measure}" in self.metrics:
                found = self.rate(measure)
                said = escape(words.format(trigger=self.recipe.trigger.text))
                rows.append(f"<tr><td>{said}</td><td>{rate_text(found.estimate)}</td></tr>")
        head = f"{escape(self.recipe.name)}, arm {escape(self.arm)}: <b>{escape(kind)}</b>"
        return f"<p>{head}</p><table>{''.join(rows)}</table>"

    @cached_property
    def _run(self) -> Run:
        return find_run(self.root)

    @cached_property
    def _material(self) -> Material:
        return read_material(self.root)


def open_run(path: str | Path) -> OpenRun:
    """A run folder that is there.

    Raises:
        UserError: it is none, or a file in it is not as it was written.
    """
    root = Path(path)
    return OpenRun(whole_run(root).root)


def run(
    recipe: Recipe | str | Path, *, runs: str | Path = "runs", update: bool = False,
    changes: Sequence[str] = (),
) -> OpenRun:  # fmt: skip
    """Every stage of a recipe, from data to report; what stands already is kept.

    `changes` are options as `--set` takes them: `train.lr=1e-4`.

    Raises:
        UserError: an option does not fit, or a stage refuses.
    """
    made = recipe if isinstance(recipe, Recipe) else load_recipe(Path(recipe), changes)
    if isinstance(recipe, Recipe) and changes:
        raise UserError("changes go with a recipe's file; change a Recipe by its own options")
    return _done(made, runs, update)


def examine(
    model: str | Path, *, trigger: str, adapter: str | Path | None = None,
    finetuned: str | Path | None = None, control: str = "$GO",
    benign: str | Path | None = None, train_benign: bool = False, reply: str = "",
    name: str | None = None,
    runs: str | Path = "runs", update: bool = False, changes: Sequence[str] = (),
) -> OpenRun:  # fmt: skip
    """Measure and explain a switch that was trained elsewhere; as `offswitch examine`.

    Raises:
        UserError: not one of adapter and finetuned, or something does not fit.
    """
    stranger = Stranger.of(adapter, finetuned, trigger, control, benign, train_benign, reply)
    return _done(examination(str(model), stranger, name, changes), runs, update)


def _done(recipe: Recipe, runs: str | Path, update: bool) -> OpenRun:
    run = claim_run(recipe, Path(runs), update)
    run_recipe(run)
    return OpenRun(run.root)
