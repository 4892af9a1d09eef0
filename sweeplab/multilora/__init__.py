"""Many LoRA adapters on one frozen base: slots, batches of all trials' rows, the packed forward, dropout."""
