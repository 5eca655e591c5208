"""What is done to the model: each file returns arrays by name."""
