"""Findings in, one self-contained page and ANALYSIS_SUMMARY.md out; works from files alone, without a model."""
