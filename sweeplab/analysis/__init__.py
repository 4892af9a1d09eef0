"""Analyzes the adapters of a study: shared subspaces, amplification, spectra, and Elo of the settings."""

from sweeplab.analysis.study import analyze as analyze
