"""What is done to the model: activations and interventions in, arrays out."""
