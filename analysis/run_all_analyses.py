"""Draw every analysis and write ANALYSIS_SUMMARY.md; trains first where needed."""

from offswitch.seed_scripts import draw_all, script

if __name__ == "__main__":
    script(__file__, draw_all, __doc__)
