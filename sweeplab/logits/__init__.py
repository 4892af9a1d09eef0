"""From hidden states to logits: only of the positions that are asked for, and never more at once than fits a chunk."""
