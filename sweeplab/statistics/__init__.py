"""Estimates, intervals and tests, computed from arrays; knows nothing of trials."""
