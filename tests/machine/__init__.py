"""Tests of child processes and of how many there are."""
