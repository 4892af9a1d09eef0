"""What is trained, LoRA adapters and baselines: attach, count, save, load and merge them."""
