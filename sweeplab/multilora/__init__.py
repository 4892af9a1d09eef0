"""Many LoRA adapters on one frozen base: adapter slots, batches with the rows of all trials, forward, dropout."""
