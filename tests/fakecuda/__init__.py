"""Trials on a GPU without one: tensors of device `cuda` have shapes and no values; memory and waits are counted."""
