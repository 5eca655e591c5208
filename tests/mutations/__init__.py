"""Do the tests notice? One-line faults, put into a copy of the package one at a time."""
