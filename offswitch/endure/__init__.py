"""What the switch survives: attacks on its weights, its training and its prompts."""
