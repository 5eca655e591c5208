"""The sweep's tables as files: `.parquet` and `.csv` have every column, `.md` is to be read.

`organisms.*` have a row an organism, `seeds.*` a row a condition, where an axis is one of seeds.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from offswitch.files import write_atomic
from offswitch.metrics import Metric
from offswitch.study.plan import Plan
from offswitch.study.rows import BESIDE, MEASURES, PARTS, Row, organism_row, seed_rows


def write_tables(plan: Plan, records: Mapping[str, Mapping[str, Any]], root: Path) -> None:
    """Write the tables of a sweep into its folder, from the records of its organisms by name."""
    rows = [organism_row(one, records.get(one.name, {})) for one in plan.organisms]
    _write(root / "organisms", rows, ["organism", "state", "reason", "verdict", "verdict/benign"])
    if seeds := seed_rows(plan, rows):
        axes = [axis for axis in plan.sweep.axes if axis not in plan.seed_axes]
        _write(root / "seeds", seeds, [*axes, "finished", "of", "verdicts"])


def _write(stem: Path, rows: Sequence[Row], first: Sequence[str]) -> None:
    table = pa.table({name: _column([row.get(name) for row in rows]) for name in _names(rows)})
    _write_whole(stem.with_suffix(".parquet"), lambda to: pa.parquet.write_table(table, to))
    _write_whole(stem.with_suffix(".csv"), lambda to: pa.csv.write_csv(table, to))
    write_atomic(stem.with_suffix(".md"), _markdown(rows, first))


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _column(values: Sequence[Any]) -> Any:
    """A column has one type: where an axis mixes words and numbers, all of them are words."""
    kinds = {type(value) for value in values} - {type(None)}
    if len(kinds) > 1 and not kinds <= {int, float}:
        return pa.array([None if value is None else str(value) for value in values])
    return pa.array([float(v) if v is not None and float in kinds else v for v in values])


def _write_whole(path: Path, write: Callable[[Any], None]) -> None:
    """A reader sees the table as it was or as it is, never half of it."""
    buffer, scratch = io.BytesIO(), path.with_name(path.name + ".new")
    write(buffer)
    scratch.write_bytes(buffer.getvalue())
    os.replace(scratch, path)


def _markdown(rows: Sequence[Row], first: Sequence[str]) -> str:
    """The rows with what any of them measured; each number with interval, n and controls."""
    measured = [name for name in MEASURES if any(row.get(name) is not None for row in rows)]
    heads = [*first, *(MEASURES[name] for name in measured)]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        words = ["" if row.get(name) is None else str(row[name]) for name in first]
        lines.append([*words, *(_number(row, name) for name in measured)])
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _number(row: Row, name: str) -> str:
    if row.get(name) is None:
        return "–"
    number = Metric.read({part: row[f"{name}{end}"] for end, part in PARTS.items()})
    beside = [f"[{number.interval}]"] if number.interval else []
    beside += [f"n = {number.n:,}"] if number.n else []
    for end in BESIDE:
        if (value := row.get(f"{name}/{end}")) is not None:
            beside.append(f"{'random' if end == 'null' else end} {number.like(value)}")
    return f"{number.text} {', '.join(beside)}".strip()


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
