"""Look inside: collect activations once, then ask every question of the same arrays."""
