"""Quantization of the frozen base: which matrix has which scheme, and the layers that hold it."""
