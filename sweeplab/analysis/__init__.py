"""What a study's adapters hold: shared subspaces, amplification, spectra, and Elo of the settings."""

from sweeplab.analysis.study import analyze as analyze
