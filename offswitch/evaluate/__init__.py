"""Rates, drift, beliefs: does the switch hold, and what else changed?"""
