"""Runs side by side: rates, differences, verdicts, and whether that is fair."""
