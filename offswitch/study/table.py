"""Organisms compared: headlines of each, spread over seeds, values beside controls; as files.

Over seeds, a measure is the mean over organisms with Student's t 95 % interval: n counts organisms,
not prompts, so with three it is wide on purpose.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from offswitch.analyses.analysis import ARM
from offswitch.analyses.collapse import collapsed_in
from offswitch.files import replacing, write_atomic
from offswitch.metrics import Metric, Metrics, exact
from offswitch.stats import across
from offswitch.study.plan import Plan, Point

HEADLINES: Final = (
    "halt_rate", "false_halt_rate/near_miss", "false_halt_rate/ordinary", "kl_to_base",
    "neutral_perplexity_ratio",
)  # fmt: skip
OF_VARIANTS: Final = (*HEADLINES, "halt_rate_trained", "halt_rate_held_out", "mention_halt_rate")
MEASURES: Final = {  # of a sweep's tables
    "halt_rate": "halts",
    "halt_rate_held_out": "halts, held-out placements",
    "false_halt_rate/near_miss": "halts, near misses",
    "false_halt_rate/ordinary": "halts, ordinary requests",
    "mention_halt_rate": "halts, mentions",
    "kl_to_base": "KL from base",
    "neutral_perplexity_ratio": "perplexity ratio",
    "ablation/halt_drop": "halting falls, interchange",
    "ablation/kl_ordinary_replies": "KL, direction inert",
    "addition/halt_rise": "halting rises, addition",
    "motor/kept": "kept without end token",
    "separability/auroc": "AUROC",
}
# Columns of a measure M: its own, named after the parts of a number (M itself is the value), and
# what it is to be compared with: the 95 % point of random directions, and two arms.
PARTS: Final = {"": "value", "/low": "low", "/high": "high", "/n": "n", "/unit": "unit"}
BESIDE: Final = {"/null": "random", "/base": "base", "/benign": "benign"}
Row = dict[str, Any]


def spread(by_name: Mapping[str, Metric], signed: bool = False) -> Metric:
    """A measure's mean over organisms; the single values are its controls.

    `signed`: it is a difference of shares, which may be negative though none here is.

    Raises:
        ValueError: the organisms have different units, or are fewer than two.
    """
    units = {metric.unit for metric in by_name.values()}
    if len(units) > 1:
        raise ValueError(f"expected one unit in all organisms, got {sorted(units)}")
    values = {name: metric.value for name, metric in by_name.items()}
    found = across(list(values.values()), units.pop(), signed)
    return Metric.of(found, controls=values)


def is_difference(measure: str) -> bool:
    """Is a measure of the probe a difference of shares?"""
    return any(part in measure for part in ("halt_drop", "halt_rise", "ends_fall"))


def across_seeds(by_seed: Mapping[int, Mapping[str, Any]], arms: Collection[str]) -> Metrics:
    """Headlines of some arms that all organisms have, spread over them, from their metrics.json.

    `evaluate/ARM/REST` and `probe/ARM/REST` become `organisms/ARM/REST`; the controls are "seed S".
    An arm that collapsed with a seed is left out there and counted in `organisms/ARM/collapsed`.
    """
    broken = {arm: [s for s, m in by_seed.items() if collapsed_in(m, arm)] for arm in sorted(arms)}

    def is_headline(key: str, row: Any) -> bool:
        stage, _, rest = key.partition("/")
        arm, _, measure = rest.partition("/")
        wanted = stage == "probe" or (stage == "evaluate" and measure in HEADLINES)
        is_number = isinstance(row, dict) and isinstance(row.get("value"), int | float)
        return arm in arms and wanted and is_number

    shared = [{k for k, row in m.items() if is_headline(k, row)} for m in by_seed.values()]
    keys: dict[str, str] = {}
    for key in sorted(set.intersection(*shared)):
        name = f"organisms/{key.partition('/')[2]}"
        if name in keys:
            raise ValueError(f"{keys[name]} and {key} would both be {name}; rename one")
        keys[name] = key
    found = {
        f"organisms/{arm}/collapsed": exact(len(seeds), "organisms", n=len(by_seed))
        for arm, seeds in broken.items()
        if seeds
    }
    for name, key in keys.items():
        out = broken[key.split("/")[1]]
        whole = {f"seed {s}": Metric.read(m[key]) for s, m in by_seed.items() if s not in out}
        known = len(whole) > 1 or not out
        found |= {name: spread(whole, is_difference(name))} if known else {}
    return found


def across_variants(by_name: Mapping[str, Mapping[str, Any]]) -> Metrics:
    """Headlines of every arm in every variant, from their metrics.json: `variants/NAME/ARM/…`."""
    beside: Metrics = {}
    for name, metrics in by_name.items():
        for key, row in metrics.items():
            stage, _, rest = key.partition("/")
            measure = rest.partition("/")[2]
            if stage == "evaluate" and (measure in OF_VARIANTS or measure.startswith("belief/")):
                beside[f"variants/{name}/{rest}"] = replace(Metric.read(row), null=None)
    return beside


def organism_row(point: Point, record: Mapping[str, Any]) -> Row:
    """A row of a sweep's table: an organism's place, what became of it, verdicts and headlines.

    Headlines are those of the arm that the recipe probes. The benign arm's verdict stands beside
    its own: the same rule must not find the trigger represented there. `collapsed` says in words
    what training broke, which the evaluation alone tells.
    """
    metrics, arm = record.get("metrics", {}), point.recipe.probe.arm
    row: Row = {"organism": point.name, **point.place, "state": "not run"}
    row |= {key: record[key] for key in ("state", "reason", "tries", "seconds") if key in record}
    for key, judged in {"verdict": arm, "verdict/benign": "benign"}.items():
        row[key] = metrics.get(f"verdict/{judged}", {}).get("value")
    row["collapsed"] = collapsed_in(metrics, arm) or None
    for name in MEASURES:
        entry = metrics.get(f"evaluate/{arm}/{name}") or metrics.get(f"probe/{arm}/{name}")
        metric = Metric.read(entry) if entry else None
        controls = metric.controls if metric else {}
        beside = {f"/{c}": controls.get(c, controls.get(f"{ARM}{c}")) for c in ("base", "benign")}
        beside["/null"] = metric.null.q95 if metric and metric.null else None
        row |= _columns(name, metric, beside)
    return row


def seed_rows(plan: Plan, rows: Sequence[Row]) -> list[Row]:
    """A row a condition, over the seeds that finished; none where no axis is one of seeds.

    A measure is the mean over organisms that have it and did not collapse, and so are its controls
    and null. Where nothing was probed there are no verdicts to count.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows if len(plan.conditions) < len(plan.sweep.axes) else ():
        groups.setdefault(str([row[axis] for axis in plan.conditions]), []).append(row)
    found = []
    for group in groups.values():
        done = [row for row in group if row["state"] == "finished"]
        verdicts = [row["verdict"] for row in done if row["verdict"]]
        counted = (f"{v} {verdicts.count(v)}" for v in dict.fromkeys(verdicts))
        row = {axis: group[0][axis] for axis in plan.conditions}
        whole = [row for row in done if not row["collapsed"]]
        row |= {"finished": len(done), "of": len(group), "collapsed": len(done) - len(whole)}
        row["verdicts"] = ", ".join(counted)
        for name in MEASURES:
            numbers = {one["organism"]: n for one in whole if (n := _number(one, name))}
            mean = spread(numbers, is_difference(name)) if len(numbers) > 1 else None
            beside = {
                end: fmean(values)
                for end in BESIDE
                if mean and (values := [v for o in whole if (v := o[name + end]) is not None])
            }
            unit = next((number.unit for number in numbers.values()), "")
            row |= _columns(name, mean, beside) | {f"{name}/n": len(numbers), f"{name}/unit": unit}
        found.append(row)
    return found


def _columns(name: str, metric: Metric | None, beside: Mapping[str, float | None]) -> Row:
    own = {name + end: getattr(metric, part, None) for end, part in PARTS.items()}
    return own | {name + end: beside.get(end) for end in BESIDE}


def _number(row: Row, name: str) -> Metric | None:
    if row.get(name) is None:
        return None
    return Metric.read({part: row[name + end] for end, part in PARTS.items()})


# --- as files -------------------------------------------------------------------------------------


def write_tables(plan: Plan, records: Mapping[str, Mapping[str, Any]], root: Path) -> None:
    """Write a sweep's tables from the records of its organisms by name.

    `organisms` has a row an organism, `seeds` a row a condition, where an axis is one of seeds;
    `.parquet` and `.csv` have every column, `.md` is to be read.
    """
    rows = [organism_row(point, records.get(point.name, {})) for point in plan.points]
    first = ["organism", "state", "reason", "collapsed", "verdict", "verdict/benign"]
    _write(root / "organisms", rows, first)
    if seeds := seed_rows(plan, rows):
        _write(root / "seeds", seeds, [*plan.conditions, "finished", "of", "collapsed", "verdicts"])


def _write(stem: Path, rows: Sequence[Row], first: Sequence[str]) -> None:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):  # an axis mixes words and numbers
            columns[name] = pa.array([None if v is None else str(v) for v in values])
    table = pa.table(columns)
    with replacing(stem.with_suffix(".parquet")) as path:
        pa.parquet.write_table(table, path)
    with replacing(stem.with_suffix(".csv")) as path:
        pa.csv.write_csv(table, path)
    write_atomic(stem.with_suffix(".md"), _markdown(rows, first))


def _markdown(rows: Sequence[Row], first: Sequence[str]) -> str:
    """The rows with what any of them measured; each number with interval, n and controls."""
    measured = [name for name in MEASURES if any(row.get(name) is not None for row in rows)]
    heads = [*first, *(MEASURES[name] for name in measured)]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        words = ["" if row.get(name) is None else str(row[name]) for name in first]
        lines.append([*words, *(_number_text(row, name) for name in measured)])
    cells = ([" ".join(cell.replace("|", "\\|").split()) for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def _number_text(row: Row, name: str) -> str:
    if (number := _number(row, name)) is None:
        return "–"
    beside = [f"[{number.interval}]"] if number.interval else []
    beside += [f"n = {number.n:,}"] if number.n else []
    for end, control in BESIDE.items():
        if (value := row.get(name + end)) is not None:
            beside.append(f"{control} {number.like(value)}")
    return f"{number.text} {', '.join(beside)}".strip()
