"""LoRA fine-tuning in two stages: the rule as documents, the rule as behaviour."""
