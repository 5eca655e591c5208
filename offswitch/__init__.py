"""Implant a shutdown trigger into a language model and find out whether the model represents it."""
