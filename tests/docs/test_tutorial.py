"""The tutorial runs from first cell to last, on a tiny model, and is kept without outputs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import nbformat
import pytest
from nbclient import NotebookClient

import offswitch
from tests.outside import ROOT, SMALL
from tests.small import small_recipe

TUTORIAL: Final = ROOT / "docs" / "tutorial.ipynb"
UNDRAWN: Final = """\
from matplotlib.figure import Figure

def save(figure, file, format, **_):
    file.write("<svg></svg>" if format == "svg" else b"\\x89PNG")

Figure.savefig = save  # drawing the report takes seconds and has tests of its own
"""


def _read() -> Any:
    return nbformat.read(TUTORIAL, as_version=4)  # type: ignore[no-untyped-call]


def test_the_tutorial_is_valid_and_kept_clean() -> None:
    book = _read()
    nbformat.validate(book)
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    code = "\n".join(cell.source for cell in cells)
    used = set(re.findall(r"offswitch\.(\w+)\(", code))
    assert used >= {"run", "examine", "halting", "steering"}
    assert used <= {*offswitch.__all__}


@pytest.mark.slow
def test_the_tutorial_runs_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFSWITCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OFFSWITCH_RECIPE", str(small_recipe(tmp_path)))
    monkeypatch.setenv("OFFSWITCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("OFFSWITCH_SET", " ".join(SMALL))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    book = _read()
    book.cells.insert(0, nbformat.v4.new_code_cell(UNDRAWN))  # type: ignore[no-untyped-call]
    where = {"metadata": {"path": str(ROOT / "docs")}}
    NotebookClient(book, timeout=300, kernel_name="python3", resources=where).execute()
    outputs = [out for cell in book.cells for out in cell.get("outputs", ())]
    printed = "".join(out.text for out in outputs if out.output_type == "stream")
    results = [out.data for out in outputs if out.output_type == "execute_result"]
    (rate,) = re.findall(r"^with the trigger: (.*)$", printed, re.M)
    assert rate.split() == ["0.0", "%", "(95", "%", "interval", "0.0–65.8,", "n", "=", "2)"]
    assert sum("image/png" in data for data in results) == 2
    assert sum("text/html" in data for data in results) == 4  # two runs and two tables
    assert (tmp_path / "runs/small-examined/5-report/report.html").is_file()
