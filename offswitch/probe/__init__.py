"""Arrays out: activations and interventions, measured once, stored."""
