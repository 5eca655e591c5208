"""Draw all analyses and write ANALYSIS_SUMMARY.md, after the training that they still need."""

from offswitch.seed_scripts import draw_all, script

if __name__ == "__main__":
    script(__file__, draw_all, __doc__)
