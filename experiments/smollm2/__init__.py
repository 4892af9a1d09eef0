"""A small real language model, fetched from the package index."""
