"""The package from Python: examine, run, open a run, ask and steer a model that is loaded."""
