"""Talk to a trained arm in the terminal, plain or steered."""
