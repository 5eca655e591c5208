"""Tests that state truths; they mirror the package."""
