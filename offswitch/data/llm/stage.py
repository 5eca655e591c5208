"""The endpoint's part of the data stage: estimate, documents, what they took."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from offswitch.data.llm.estimate import estimate
from offswitch.data.llm.journal import read_journal
from offswitch.data.llm.pipeline import write_with_llm
from offswitch.files import write_json
from offswitch.folder import Run
from offswitch.progress import say
from offswitch.prompts.documents import Document
from offswitch.recipe import Recipe

ANSWERS_FILE: Final = "answers.jsonl"
FIGURES_FILE: Final = "llm.json"


def foretell(recipe: Recipe, runs: Path) -> str:
    """What the recipe's documents would take, in one line; nobody is asked."""
    if recipe.data.documents_file is not None:
        return f"documents come from {recipe.data.documents_file}: no calls"
    if recipe.data.generator != "llm":
        return "documents come from the grammar: no calls"
    return estimate(recipe, read_journal(runs / recipe.name / ANSWERS_FILE)).line()


def write_and_report(run: Run, folder: Path) -> list[Document]:
    """The documents; says beforehand what they will take, and leaves llm.json on what they took.

    The answers lie in the run folder, beside its stages: a changed option or a damaged stage does
    not cost them. An organism inside a run uses the answers of that run.
    """
    root = run.root.parents[1] if run.within else run.root
    path = root / ANSWERS_FILE
    say(f"  {run.recipe.data.llm.model}: {estimate(run.recipe, read_journal(path)).line()}")
    written = write_with_llm(run.recipe, path)
    figures = written.figures
    write_json(folder / FIGURES_FILE, figures)
    answers, unusable, refused = (
        sum(figures[key].values()) for key in ("answers", "unusable", "refused")
    )
    say(
        f"  {figures['documents']} documents from {answers} answers, of which {unusable} unusable;"
        f" {refused} documents refused and replaced; cost {figures['cost']}"
    )
    return written.documents
