"""Scores a trained model: held-out loss, lm-eval on the model in memory, accuracy on images."""
