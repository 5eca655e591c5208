"""The runs and arms to compare, read as far as they are whole."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from offswitch.analyses.causal import Causal
from offswitch.analyses.judge import causal_of, judge
from offswitch.analyses.verdict import Verdict
from offswitch.errors import UserError
from offswitch.folder import EVALUATE, PROBE, TRAIN, Run, find_run
from offswitch.folder.whole import unlike
from offswitch.metrics import Metric, read_metrics
from offswitch.options import BASE
from offswitch.recipe import Recipe, arms_of

Json = Mapping[str, Any]
T = TypeVar("T")

ORGANISMS: Final = "organisms"
# What reading a damaged file may raise.
DAMAGE: Final = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    UserError,
    pa.ArrowException,
)


@dataclass(frozen=True)
class ReadRun:
    """What could be read of a run folder; `outcomes` has a row for each arm and prompt.

    `missing`: what is damaged, by the stage that it belongs to.
    """

    root: Path
    recipe: Recipe
    manifest: Json
    numbers: Mapping[str, Metric]
    outcomes: tuple[Json, ...]
    verdicts: Mapping[str, str]
    causal: Mapping[str, Causal | None]
    damaged: tuple[str, ...]


@dataclass(frozen=True)
class Side:
    """One arm of one run, and what it is called in the comparison."""

    label: str
    run: ReadRun
    arm: str

    def number(self, stage: str, measure: str, arm: str = "") -> Metric | None:
        """A number of this arm, or of another of the same run; None where it was not measured."""
        return self.run.numbers.get(f"{stage}/{arm or self.arm}/{measure}")

    @property
    def outcomes(self) -> list[Json]:
        """A row for each prompt that the arm was asked."""
        return [row for row in self.run.outcomes if row["arm"] == self.arm]

    @property
    def verdict(self) -> str:
        """What the rule says of the arm; empty where it was not probed."""
        return self.run.verdicts.get(self.arm, "")

    @property
    def missing(self) -> list[str]:
        """What this arm lacks, and why, in sentences without an end."""
        lines = list(self.run.damaged)
        done = self.run.manifest.get("stages", {})
        if self.arm != BASE and f"{TRAIN}/{self.arm}" not in done:
            lines.append(f"{TRAIN}/{self.arm} is not finished")
        if self.number("evaluate", "halt_rate") is None:
            lines.append(f"{EVALUATE} has no rates of arm {self.arm}")
        elif not self.outcomes:
            lines.append(f"{EVALUATE} has no outcomes by prompt, so rates are compared unpaired")
        if not self.verdict:
            lines.append(f"{PROBE} has nothing of arm {self.arm}, so there is no verdict")
        return lines


def read_sides(names: Sequence[str], arms: Sequence[str] = ()) -> tuple[Side, ...]:
    """The arms of the runs that are named: RUN, RUN:ARM, or a folder with runs inside.

    `arms` are those of every run that is named without one, else the arm that the run probes.

    Raises:
        UserError: no run folder, an arm that its recipe does not have, one arm of one run named
            twice, or fewer than two in all.
    """
    read: dict[Path, ReadRun] = {}
    chosen: list[tuple[ReadRun, str]] = []
    for name in names:
        folder, _, own = ("", "", "") if Path(name).exists() else name.rpartition(":")
        for root in _roots(Path(folder or name)):
            run = read.setdefault(root.resolve(), _read(root))
            wanted = [own] if folder else [*arms] or [run.recipe.probe.arm]
            chosen += [(run, _arm_of(run, arm)) for arm in wanted]
    pairs = [(run.root.resolve(), arm) for run, arm in chosen]
    if twice := [pair for pair, count in Counter(pairs).items() if count > 1]:
        raise UserError(f"{twice[0][0]}: arm '{twice[0][1]}' is named twice")
    if len(chosen) < 2:
        raise UserError(
            f"expected at least two arms to compare, got {len(chosen)}; name another run folder, "
            "RUN:ARM for another arm, or a folder with several runs inside"
        )
    labels = _labels([run.root.resolve() for run, _ in chosen])
    several = Counter(labels)
    return tuple(
        Side(f"{label}:{arm}" if several[label] > 1 else label, run, arm)
        for label, (run, arm) in zip(labels, chosen, strict=True)
    )


def _roots(path: Path) -> list[Path]:
    """The run itself, else the runs inside: of a sweep, a calibration, or of further seeds."""
    is_run = (path / "recipe.yaml").is_file()
    if is_run and any(path.glob("[1-4]-*")):
        return [path]
    for folder in (path / ORGANISMS, path):
        if found := sorted(recipe.parent for recipe in folder.glob("*/recipe.yaml")):
            return found
    if is_run:
        return [path]
    raise UserError(
        f"{path}: neither a run folder (no recipe.yaml) nor a folder with runs inside; make a run "
        "with: offswitch run RECIPE"
    )


def _arm_of(run: ReadRun, arm: str) -> str:
    known = [BASE, *arms_of(run.recipe)]
    if arm not in known:
        raise UserError(f"{run.root}: no arm '{arm}'; there are {', '.join(known)}")
    return arm


def _labels(roots: Sequence[Path]) -> list[str]:
    """As few parts of each path as tell it from the others, `organisms` left out."""
    parts = [[part for part in root.parts if part != ORGANISMS] for root in roots]
    count = 1
    while len({tuple(own[-count:]) for own in parts}) < len(set(roots)):
        count += 1
    return ["/".join(own[-count:]) for own in parts]


def _read(root: Path) -> ReadRun:
    run, damaged = find_run(root), []

    def whole(path: str, read: Callable[[], T], empty: T) -> T:
        try:
            return read()
        except DAMAGE:
            damaged.append(f"{path} is damaged or of another version, and was left out")
            return empty

    entries: dict[str, Any] = {}
    for path in (*sorted(root.glob("[0-9]-*/**/metrics.json")), root / "metrics.json"):
        nothing: dict[str, Any] = {}
        entries |= whole(str(path.relative_to(root)), partial(read_metrics, path), nothing)
    numbers = {key: Metric.read(row) for key, row in entries.items()
               if isinstance(row, dict) and isinstance(row.get("value"), int | float)}  # fmt: skip
    unjudged: Mapping[str, Verdict] = {}
    judged = whole(PROBE, partial(judge, root), unjudged)
    told = {key.removeprefix("verdict/"): str(row["value"]) for key, row in entries.items()
            if key.startswith("verdict/") and key.count("/") == 1}  # fmt: skip
    none: dict[str, Any] = {}
    manifest = whole("manifest.json", run.manifest, none)
    damaged += [f"{path.relative_to(root)} was changed" for path in unlike(root, manifest)]
    return ReadRun(
        root=root,
        recipe=run.recipe,
        manifest=manifest,
        numbers=numbers,
        outcomes=whole(f"{EVALUATE}/scores.parquet", lambda: _outcomes(run), ()),
        verdicts=told | {arm: found.kind for arm, found in judged.items()},
        causal=whole(PROBE, lambda: causal_of(root), {}),
        damaged=tuple(dict.fromkeys(damaged)),
    )


def _outcomes(run: Run) -> tuple[Json, ...]:
    path = run.folder(EVALUATE) / "scores.parquet"
    if not path.is_file():
        return ()
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    if lacking := {"arm", "suite", "variant", "question", "halts"} - {*rows[0]} if rows else set():
        raise ValueError(f"{path} lacks {json.dumps(sorted(lacking))}")
    return tuple(rows)
