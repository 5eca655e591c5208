"""An arm as a folder for the Hugging Face Hub: weights in several forms, and what each does."""
