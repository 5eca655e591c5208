"""Tests of the package as it is used from Python."""
