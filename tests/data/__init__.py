"""Tests of what is trained on and what is asked."""
