"""The network: loading, forward passes, adapters, hooks, generation."""
