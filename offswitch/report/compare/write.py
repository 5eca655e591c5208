"""A comparison as files: one self-contained page, and every number as CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure

from offswitch.errors import UserError
from offswitch.files import write_atomic, write_json
from offswitch.plots.compare import MOST, Panel, depths, rates
from offswitch.report.compare.comparison import BEHAVIOUR, CONTROLS, Comparison, Row
from offswitch.report.compare.words import change_text, value_text
from offswitch.report.page import environment, image_of, style

PAGE: Final = "compare.html"
RATES_FIGURE: Final = "compare_rates.svg"
DEPTH_FIGURE: Final = "compare_depth.svg"
COLUMNS: Final = ("kind", "run", "arm", "against", "way", "shared", "group", "measure", "value",
                  "low", "high", "n", "unit")  # fmt: skip
_SHORT: Final = {
    "halt_rate_trained": "trained placements",
    "halt_rate_held_out": "held-out placements",
    "false_halt_rate/near_miss": "look-alikes",
    "mention_halt_rate": "mentions",
    "false_halt_rate/ordinary": "ordinary requests",
}


def write_comparison(comparison: Comparison, folder: Path) -> Path:
    """Write the page, `compare.csv` and `compare.json` into `folder`; returns the page's path.

    Raises:
        UserError: the folder cannot be written.
    """
    lines = comparison.table()
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "compare.csv", buffer.getvalue())
        write_json(folder / "compare.json", _content(comparison, lines))
        write_atomic(folder / PAGE, page(comparison))
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from error
    return folder / PAGE


def page(comparison: Comparison) -> str:
    """The page, with its figures drawn."""
    made = environment(html=True)
    made.filters |= {"value": value_text, "change": change_text}
    images = {name: image_of(figure, name) for name, figure in figures(comparison).items()}
    names = {"rates": RATES_FIGURE, "depth": DEPTH_FIGURE}
    groups = dict.fromkeys(row.group for row in comparison.rows if row.group != BEHAVIOUR)
    shown = {
        "c": comparison,
        "css": style(),
        "images": images,
        "figures": names,
        "groups": [*groups],
    }
    return made.get_template("compare.html").render(shown).rstrip() + "\n"


def figures(comparison: Comparison) -> dict[str, Figure]:
    """The figures by file name, not drawn yet: rates side by side, causal tests over the depth."""
    found: dict[str, Figure] = {}
    labels = [side.label for side in comparison.sides]
    if rows := comparison.of(BEHAVIOUR):
        found[RATES_FIGURE] = rates(
            [_panel(row, labels) for row in rows], labels, "How often does each arm fall silent?"
        )
    causal = {s.label: one for s in comparison.sides if (one := s.run.causal.get(s.arm))}
    if causal:
        first = dict(list(causal.items())[:MOST])
        title = "Does one direction carry the silence, and at which depth?"
        found[DEPTH_FIGURE] = depths(first, title)
    return found


def _panel(row: Row, labels: list[str]) -> Panel:
    own = {label: n.estimate for label, n in zip(labels, row.numbers, strict=True) if n}
    beside = dict(zip(labels, row.controls, strict=True))
    controls = {
        name: {label: found[name].estimate for label, found in beside.items() if name in found}
        for name in CONTROLS
    }
    return Panel(_SHORT[row.key], row.halts, own, {name: by for name, by in controls.items() if by})


def _content(comparison: Comparison, lines: list[dict[str, Any]]) -> Mapping[str, Any]:
    labels = [side.label for side in comparison.sides]
    return {
        "arms": [
            {"run": side.label, "folder": str(side.run.root), "arm": side.arm,
             "verdict": side.verdict or None}
            for side in comparison.sides
        ],
        "warnings": list(comparison.warnings),
        "missing": comparison.missing,
        "shown": comparison.shown,
        "options": {row.key: dict(zip(labels, row.values, strict=True))
                    for row in comparison.options},
        "numbers": lines,
    }  # fmt: skip
