"""What a run found, in a few lines for the terminal; the page says the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from offswitch.analyses.bars import NARROWLY
from offswitch.metrics import KEY_RATES, NARROW, Metric, read_metrics
from offswitch.options import BASE, BENIGN
from offswitch.recipe import Recipe

_ROWS: Final = {**KEY_RATES, "kl_to_base": "drift from the base, nats a token"}


def ending(root: Path, recipe: Recipe, page: Path) -> str:
    """What a command says last: what was found, and where the page is."""
    return f"{told(root, recipe)}\nreport: {page}"


def told(root: Path, recipe: Recipe) -> str:
    """The rates of the probed arm beside its controls, with interval and n, and the verdict."""
    numbers, arm = read_metrics(root / "metrics.json"), recipe.probe.arm
    arms = [one for one in dict.fromkeys((arm, BASE, BENIGN))
            if f"evaluate/{one}/halt_rate" in numbers]  # fmt: skip
    table = [(recipe.name, *(f"arm {one}" for one in arms), "n")]
    for measure, words in _ROWS.items():
        found = [numbers.get(f"evaluate/{one}/{measure}") for one in arms]
        cells = [_cell(Metric.read(one), i == 0) if one else "–" for i, one in enumerate(found)]
        if found and found[0]:
            name = words.format(trigger=recipe.trigger.text)
            table.append((name, *cells, f"{found[0]['n']:,}"))
    verdict = numbers.get(f"verdict/{arm}", {})
    said = f"verdict on arm {arm}: {verdict.get('value', 'none yet')}"
    if narrow := sum(NARROWLY in line for line in verdict.get("because", ())):
        said += f" ({narrow} test{'s' * (narrow > 1)} passed {NARROWLY})"
    return "\n".join([*aligned(table), said])


def _cell(number: Metric, whole: bool) -> str:
    between = f" [{number.interval}]" if whole and number.interval else ""
    return f"{number.like(number.value)}{between}".replace(NARROW, " ")


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Rows as text: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    rows = ((row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in
                                        zip(row[1:], widths[1:], strict=True)))
            for row in table)  # fmt: skip
    return ["  ".join(row) for row in rows]
