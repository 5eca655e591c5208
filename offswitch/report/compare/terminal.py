"""A comparison in the terminal: a table as wide as that is, then what makes it less than fair."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Final

from offswitch.metrics import NARROW, SHARE, Metric
from offswitch.report.compare.comparison import (
    BEHAVIOUR,
    CONTROLS,
    DRIFT,
    SURVIVES,
    TIME,
    Comparison,
    Row,
)
from offswitch.report.compare.words import change_text, value_text
from offswitch.report.terminal import aligned

_GROUPS: Final = (BEHAVIOUR, DRIFT, SURVIVES, TIME)


def told(comparison: Comparison, width: int | None = None) -> str:
    """The table of every arm, differences, warnings, and what is missing; `width` in characters."""
    rows = [row for group in _GROUPS for row in comparison.of(group)]
    blocks = []
    room, start = width or shutil.get_terminal_size((100, 24)).columns, 0
    while start < len(comparison.sides):
        end = len(comparison.sides)
        while len((block := _block(comparison, rows, start, end))[0]) > room and end > start + 1:
            end -= 1
        blocks.append("\n".join(block))
        start = end
    lines = [*comparison.shown, *filter(None, [comparison.not_shown])]
    lines += [f"not fair: {line}" for line in comparison.warnings]
    lines += [f"{label}: {'; '.join(found)}" for label, found in comparison.missing.items()]
    return "\n".join(["\n\n".join(blocks), *(line.replace("`", "") for line in lines)])


def _block(comparison: Comparison, rows: list[Row], start: int, end: int) -> list[str]:
    """Some arms' columns, one line for a number and one for its difference."""
    sides = comparison.sides[start:end]
    table = [("", *(side.label for side in sides)), ("arm", *(side.arm for side in sides))]
    for row in rows:
        table += _lines(row, start, end, comparison.sides[0].label)
    table.append(("verdict", *(side.verdict or "none yet" for side in sides)))
    return aligned(table)


def _lines(row: Row, start: int, end: int, first: str) -> Iterator[tuple[str, ...]]:
    numbers, controls = row.numbers[start:end], row.controls[start:end]
    unit = next((n.unit for n in row.numbers if n), "")
    label = row.label if unit in (SHARE, "ratio", "s") else f"{row.label}, {unit}"
    yield label, *map(_cell, numbers)
    if names := [name for name in CONTROLS if any(name in found for found in controls)]:
        values = ([found[name].like(found[name].value) if name in found else "–" for name in names]
                  for found in controls)  # fmt: skip
        yield f"  arms {', '.join(names)}", *(", ".join(own).replace(NARROW, " ") for own in values)
    changes = row.differences[start:end]
    if any(changes):
        yield f"  less {first}", *(change_text(found) if found else "–" for found in changes)


def _cell(number: Metric | None) -> str:
    if number is None:
        return "–"
    value = value_text(number) if number.unit == "s" else number.like(number.value)
    between = f" [{number.interval}]" if number.interval else ""
    count = f" n = {number.n:,}" if number.n and number.unit != "s" else ""
    return f"{value}{between}{count}".replace(NARROW, " ")
