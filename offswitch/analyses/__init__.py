"""Arrays in, findings out: pure functions, their nulls and controls, the verdict."""
