"""What this machine does best: child processes, threads, number types."""
