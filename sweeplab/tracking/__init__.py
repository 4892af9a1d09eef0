"""Who watches a study: the live display, its status file, and a mirror on Weights & Biases."""
