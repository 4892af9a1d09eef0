"""Trains the trials of a cohort with Lightning: module, losses, optimizers, schedules, checkpoints, FSDP."""
