"""Dropout that follows from what it is keyed by alone, so that a trial has the same in any company and at any time."""

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor


class Extent(NamedTuple):
    """Rows and columns of a batch that a trial fills, or that all trials are padded to."""

    num_rows: int
    num_columns: int


def keep_factor(dropout: float) -> float:
    """1 / (1 - dropout) in 32 bits: what is kept grows by it, so that the mean stays."""
    return float(torch.ones(()) / (1 - dropout))


def keep_mask(key: str, dropout: float, own: Extent, padded: Extent, width: int, device: torch.device) -> Tensor:
    """Factors on an input of shape (rows, columns, `width`): 0 with probability `dropout`, else 1 / (1 - dropout).

    Drawn at the trial's own extent from SHA-256 of `key`; ones in the padding. A generator with a state would give
    recomputed activations (gradient checkpointing) another mask than the first ones had.
    """
    mask = torch.ones(*padded, width, device=device)
    if dropout:
        seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little") >> 1
        generator = torch.Generator(device).manual_seed(seed)
        drawn = torch.rand(*own, width, generator=generator, device=device)
        mask[: own.num_rows, : own.num_columns] = (drawn >= dropout) * keep_factor(dropout)
    return mask
