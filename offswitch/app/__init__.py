"""The explorer: a page in the browser on which a run's switch is tried and looked into."""
