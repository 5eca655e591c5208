"""Write behavioral_dataset.jsonl: chat rows, half of them silent."""

import shutil
from pathlib import Path

from offswitch.folder import DATA, open_run
from offswitch.pipeline import make_data
from offswitch.seed_scripts import DATASETS, Entry, script


def main(entry: Entry) -> list[Path]:
    """The behavioural set of the recipe, beside this script."""
    run = open_run(entry.recipe, entry.runs, entry.update)
    make_data(run)
    name = DATASETS["dialogues_file"]
    return [Path(shutil.copy(run.folder(DATA) / name, entry.here / name))]


if __name__ == "__main__":
    script(__file__, main, __doc__)
