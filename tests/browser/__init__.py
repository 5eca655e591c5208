"""Tests in a real browser: report and explorer."""
