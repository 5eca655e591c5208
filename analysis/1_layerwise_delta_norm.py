"""Draw the layerwise difference: where does the trigger change residuals most?"""

from pathlib import Path

from offswitch.seed_scripts import Entry, draw, script


def main(entry: Entry) -> list[Path]:
    """results/1_layerwise_delta_norm.png."""
    return draw(entry, "layerwise_delta_norm")


if __name__ == "__main__":
    script(__file__, main, __doc__)
