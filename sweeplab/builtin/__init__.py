"""The offline world and the two small bases that know it, so that a study runs without a network."""
