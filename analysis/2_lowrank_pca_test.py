"""Draw the PCA over 20 prompts: is the change that the trigger makes low-rank?"""

from pathlib import Path

from offswitch.seed_scripts import Entry, draw, script


def main(entry: Entry) -> list[Path]:
    """results/2_pca_cumulative_variance.png and results/2_pca_component_distributions.png."""
    return draw(entry, "lowrank_pca")


if __name__ == "__main__":
    script(__file__, main, __doc__)
