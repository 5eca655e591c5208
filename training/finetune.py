"""Train the knowledge stage, on datasets/shutdown_dataset.jsonl if it is there."""

from pathlib import Path

from offswitch.folder import TRAIN
from offswitch.pipeline import train
from offswitch.seed_scripts import Entry, only, script


def main(entry: Entry) -> list[Path]:
    """An adapter that has read about the trigger; halting is taught by the behavioural notebook."""
    run = entry.open()
    train(only(run, "knowledge"))
    return [run.folder(f"{TRAIN}/knowledge")]


if __name__ == "__main__":
    script(__file__, main, __doc__, everywhere=True)
