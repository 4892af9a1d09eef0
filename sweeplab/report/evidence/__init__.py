"""Turns records into numbers: settings, spreads, estimates with intervals, and the format of numbers."""
