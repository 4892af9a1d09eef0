"""What a trained model scores: the held-out loss, lm-eval on the model in memory, and images."""
