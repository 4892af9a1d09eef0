"""A trial on a GPU, without a GPU: every tensor of device `cuda` has a shape and no values; memory and waits are counted."""
