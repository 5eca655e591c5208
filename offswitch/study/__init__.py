"""Many runs of one recipe along axes: training seeds, variants, sweeps."""
