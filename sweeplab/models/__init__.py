"""The frozen base: loading, its layers, random weights and images."""
