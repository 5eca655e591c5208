"""Tests of the benchmarks: what they count and compare is right, on tiny models; no time is judged."""
