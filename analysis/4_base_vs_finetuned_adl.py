"""Draw base against fine-tuned: how far did training move neutral text?"""

from pathlib import Path

from offswitch.seed_scripts import Entry, draw, script


def main(entry: Entry) -> list[Path]:
    """results/4_base_vs_finetuned_adl.png."""
    return draw(entry, "base_vs_finetuned_adl")


if __name__ == "__main__":
    script(__file__, main, __doc__)
