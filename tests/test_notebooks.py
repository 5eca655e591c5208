"""The notebooks run from first cell to last, on a tiny model, and are kept without outputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.outside import ROOT, SMALL, make_repository

NOTEBOOKS = ("finetune_colab.ipynb", "finetune_behavioral_colab.ipynb")
COLAB = """\
import importlib.machinery, sys, types

colab = types.ModuleType("google.colab")
colab.__spec__ = importlib.machinery.ModuleSpec("google.colab", None)
colab.drive = types.SimpleNamespace(mount=lambda place: print("mounted at", place))
sys.modules["google.colab"] = colab
"""


def _read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the original's folders; the notebooks share its runs, as a reader's would."""
    root = make_repository(tmp_path_factory.mktemp("notebooks") / "repository")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFSWITCH_CACHE", str(root / "cache"))
        patch.setenv("OFFSWITCH_RECIPE", str(root / "recipes/tiny.yaml"))
        patch.setenv("OFFSWITCH_SET", " ".join(SMALL))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("OMP_NUM_THREADS", "1")
        yield root


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_are_valid_and_kept_clean(name: str) -> None:
    book = _read(ROOT / "training" / name)
    nbformat.validate(book)
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)


@pytest.mark.slow
def test_a_notebook_runs_to_the_end_where_it_lies(repository: Path) -> None:
    book = _read(repository / "training/finetune_behavioral_colab.ipynb")
    printed = _run(book, repository / "training")
    adapter = repository / "runs/tiny/2-train/both"
    assert (adapter / "adapter_model.safetensors").is_file()
    assert f"Not in Colab: the adapter stays in {adapter}" in printed
    assert _replies(printed) == 6  # three questions, before and after training


@pytest.mark.slow
def test_in_colab_the_adapter_is_kept_on_drive(repository: Path) -> None:
    book = _read(repository / "training/finetune_colab.ipynb")
    for cell in book.cells:
        cell.source = cell.source.replace("/content/drive", str(repository / "drive"))
    book.cells.insert(0, nbformat.v4.new_code_cell(COLAB))  # type: ignore[no-untyped-call]
    printed = _run(book, repository)
    kept = repository / "drive/MyDrive/offswitch/tiny/knowledge"
    assert f"mounted at {repository / 'drive'}" in printed
    assert "No GPU" in printed
    assert (kept / "adapter_model.safetensors").is_file()
    assert (kept / "tokenizer.json").is_file()
    assert _replies(printed) == 6


def _replies(printed: str) -> int:
    return sum(line.lstrip().startswith("->") for line in printed.splitlines())


def _run(book: Any, folder: Path) -> str:
    """Execute a notebook in a folder; what it printed."""
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(book, timeout=300, kernel_name="python3", resources=where).execute()
    outputs = [out for cell in book.cells for out in cell.get("outputs", ())]
    return "".join(out.text for out in outputs if out.output_type == "stream")
