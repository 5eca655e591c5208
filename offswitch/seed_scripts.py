"""What the original's scripts share: options, a run folder, copied results.

The scripts lie in datasets/, training/ and analysis/ and may be started from anywhere. They work in
the same run folders as the command line, so what `make demo` has trained is not trained again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from offswitch.errors import quiet, user_errors
from offswitch.files import file_hash
from offswitch.folder import DATA, DIALOGUES_FILE, DOCUMENTS_FILE, PROBE, Run, open_run
from offswitch.options import ArmName
from offswitch.pipeline import make_data, probe
from offswitch.progress import say
from offswitch.recipe import Recipe, load_recipe
from offswitch.study.stage import run_recipe
from offswitch.train.processes import by_first, together

DATASETS: Final = {"documents_file": DOCUMENTS_FILE, "dialogues_file": DIALOGUES_FILE}


@dataclass(frozen=True)
class Entry:
    """A started script: the repository, the script's own folder, and what was asked for."""

    root: Path
    here: Path
    recipe: Recipe
    runs: Path
    update: bool

    def open(self) -> Run:
        """The recipe's run, or one beside it where datasets/ holds other rows than the recipe's."""
        return by_first(self._open)

    def _open(self) -> Run:
        run = open_run(self.recipe, self.runs, self.update)
        there = {key: self.root / "datasets" / name for key, name in DATASETS.items()}
        given = {k: p for k, p in there.items() if p.is_file() and not getattr(self.recipe.data, k)}
        if given:
            make_data(run)
        made = run.folder(DATA)
        edited = {k: p for k, p in given.items() if file_hash(p) != file_hash(made / p.name)}
        if not edited:
            return run
        say(f"using {' and '.join(path.name for path in edited.values())} as found in datasets/")
        data = self.recipe.data.model_copy(update=edited)
        name = f"{self.recipe.name}-datasets"
        recipe = self.recipe.model_copy(update={"name": name, "data": data})
        return open_run(recipe, self.runs, update=True)


def script(
    file: str, work: Callable[[Entry], Iterable[Path]], about: str | None, everywhere: bool = False
) -> None:
    """Run one of the original's scripts and print the paths that `work` returns, one a line.

    Of several processes the first one works alone, or all of them do.
    """
    here = Path(file).resolve().parent
    root = here.parent
    parser = argparse.ArgumentParser(description=about)
    default = root / "recipes" / "demo.yaml"
    parser.add_argument(
        "--recipe", type=Path, default=default, metavar="PATH", help="default: recipes/demo.yaml"
    )
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
        help="change one option of the recipe: --set train.lr=2e-4",
    )  # fmt: skip
    parser.add_argument(
        "--runs", type=Path, default=root / "runs", metavar="DIR", help="where run folders are kept"
    )
    parser.add_argument(
        "--update", action="store_true", help="let a changed recipe re-run what it changes"
    )
    options = parser.parse_args()
    quiet()
    with user_errors(), together():
        recipe = by_first(lambda: load_recipe(options.recipe, options.overrides))
        entry = Entry(root, here, recipe, options.runs, options.update)
        for path in work(entry) if everywhere else by_first(lambda: list(work(entry))):
            sys.stdout.write(f"{path}\n")


def only(run: Run, arm: ArmName) -> Run:
    """The same run folder, for a recipe that trains one arm only (and what it builds on)."""
    recipe = run.recipe
    train = recipe.train.model_copy(update={"arms": (arm,)})
    narrow = recipe.probe.model_copy(update={"arm": arm})
    return Run(run.root, recipe.model_copy(update={"train": train, "probe": narrow}))


def draw(entry: Entry, analysis: str) -> list[Path]:
    """The figures of one analysis, in results/ beside the script; says what the controls say."""
    from offswitch.analyses.registry import SEED_ANALYSES
    from offswitch.analyses.store import load_findings
    from offswitch.plots import figures

    run = entry.open()
    probe(run)
    finding = load_findings(run.folder(PROBE) / "findings.json", SEED_ANALYSES)[analysis]
    say(finding.statement)
    paths = []
    for name, figure in figures(finding).items():
        paths.append(_results(entry) / name)
        figure.savefig(paths[-1])
    return paths


def draw_all(entry: Entry) -> list[Path]:
    """Every figure and ANALYSIS_SUMMARY.md, copied from the run's report into results/."""
    page = run_recipe(entry.open())
    files = [*sorted(page.parent.glob("*.png")), page.parent / "ANALYSIS_SUMMARY.md"]
    return [Path(shutil.copy(file, _results(entry) / file.name)) for file in files]


def _results(entry: Entry) -> Path:
    folder = entry.here / "results"
    folder.mkdir(exist_ok=True)
    return folder
