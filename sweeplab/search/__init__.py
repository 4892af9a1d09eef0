"""Optuna: which point to try next, rebuilt from the files of a study at every start."""
