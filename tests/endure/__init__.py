"""What the switch survives."""
