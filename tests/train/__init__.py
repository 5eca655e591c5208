"""Tests of the training data, the loss and the two stages."""
