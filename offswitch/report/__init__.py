"""Findings in, one self-contained page and ANALYSIS_SUMMARY.md out; no model."""
