"""Memory beside the plan, and times by roofline, of trials on fake CUDA tensors: no GPU has measured any of it."""
