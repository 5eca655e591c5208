"""Implant a shutdown trigger into a language model; see if it represents it."""
