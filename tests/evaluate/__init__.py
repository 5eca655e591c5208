"""Tests of the suites, the outcomes and the measures."""
