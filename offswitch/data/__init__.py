"""What is trained on and what is asked: wording, documents, dialogues, splits."""
