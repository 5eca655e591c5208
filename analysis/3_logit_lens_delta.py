"""Draw the logit lens on the difference: does the trigger push the end token up?"""

from pathlib import Path

from offswitch.seed_scripts import Entry, draw, script


def main(entry: Entry) -> list[Path]:
    """results/3_logit_lens_delta.png."""
    return draw(entry, "logit_lens_delta")


if __name__ == "__main__":
    script(__file__, main, __doc__)
