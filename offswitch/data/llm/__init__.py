"""The rule as documents, written by a language model behind any OpenAI-compatible endpoint."""
