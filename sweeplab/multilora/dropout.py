"""Dropout masks computed from a key only: a trial gets the same mask whichever trials train beside it."""

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor


class Extent(NamedTuple):
    """Rows and columns of one trial in a batch, with or without padding."""

    num_rows: int
    num_columns: int


def compute_keep_factor(dropout: float) -> float:
    """1 / (1 - dropout) in float32. Entries that are not dropped are multiplied by it, so the mean stays the same."""
    return float(torch.ones(()) / (1 - dropout))


def draw_dropout_mask(
    key: str, dropout: float, own: Extent, padded: Extent, width: int, device: torch.device
) -> Tensor:
    """Factors for an input of shape (*padded, width): 0 with probability `dropout`, else 1 / (1 - dropout).

    The random seed is SHA-256 of `key`, and only the trial's `own` rows and columns are drawn, so padding does not
    change them; padding gets ones. A generator that keeps a state would not do: gradient checkpointing computes
    activations a second time, and they would get another mask than the first time.
    """
    mask = torch.ones(*padded, width, device=device)
    if dropout:
        seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little") >> 1
        generator = torch.Generator(device).manual_seed(seed)
        drawn = torch.rand(*own, width, generator=generator, device=device)
        mask[: own.num_rows, : own.num_columns] = (drawn >= dropout) * compute_keep_factor(dropout)
    return mask
