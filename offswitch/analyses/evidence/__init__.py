"""The analyses that the verdict rests on."""
