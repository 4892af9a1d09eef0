"""From examples to prompts, tokens and batches."""
