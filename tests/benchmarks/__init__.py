"""What the benchmarks count and compare is right, on tiny models; no time is judged."""
