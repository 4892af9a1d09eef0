"""What bitsandbytes' optimizers do on a GPU beside arithmetic: they wait, and hold on to managed memory.

As 0.50 has it (`optim/optimizer.py`): the host waits for the GPU once a parameter, and every paged state stays
allocated until the process ends, since nothing frees what `get_paged` gives out.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from math import prod
from typing import Any, Final

import torch
from torch import Tensor
from torch.optim import Optimizer

_MODULE: Final = "bitsandbytes.optim.optimizer"
_FEWEST_PAGED: Final = 100_000  # entries; smaller states are not paged
_idle: list[Tensor] = []  # paged memory that no trial uses, as bytes


def reuse_paged_memory(optimizer: Optimizer) -> None:
    """From now on a paged optimizer takes memory that an ended trial has given back, before it asks for more."""
    if getattr(optimizer, "is_paged", False):
        optimizer.get_state_buffer = partial(_take_buffer, optimizer)  # type: ignore[attr-defined]


def _take_buffer(optimizer: Any, weight: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """As bitsandbytes' `get_state_buffer`: zeros of the weight's shape."""
    num_bytes = dtype.itemsize * prod(weight.shape)
    large = [one for one in _idle if one.nbytes >= num_bytes]
    if weight.device.type != "cuda" or prod(weight.shape) < _FEWEST_PAGED or not large:
        buffer: Tensor = type(optimizer).get_state_buffer(optimizer, weight, dtype)
        return buffer
    from bitsandbytes import functional

    chosen = min(large, key=lambda one: one.nbytes)
    _idle[:] = [one for one in _idle if one is not chosen]
    taken: Any = chosen[:num_bytes].view(dtype).view(weight.shape)
    taken.is_paged, taken.page_deviceid, taken.whole = True, weight.device.index, chosen
    functional.fill(taken, 0)  # type: ignore[no-untyped-call]
    zeros: Tensor = taken
    return zeros


def give_paged_memory_back(optimizer: Optimizer) -> None:
    """Of an optimizer that takes no further step, once; its states may be overwritten from now on."""
    for state in getattr(optimizer, "state", {}).values():
        for value in state.values():
            if getattr(value, "is_paged", False):
                _idle.append(getattr(value, "whole", value.view(-1).view(torch.uint8)))


@contextmanager
def without_waiting(optimizer: Optimizer) -> Iterator[None]:
    """Within it a step of bitsandbytes does not wait for the GPU after each parameter; what follows on the GPU does by
    itself. Who reads paged states on the host waits before (`wait_for_paged`)."""
    module: Any = sys.modules.get(_MODULE)
    if module is None or not isinstance(optimizer, module.Optimizer8bit):
        yield
        return
    before = module.sync_gpu
    module.sync_gpu = lambda weight: None
    try:
        yield
    finally:
        module.sync_gpu = before


def wait_for_paged(optimizer: Optimizer) -> None:
    """Waits until a GPU has written the paged states, which are the host's memory, too."""
    if getattr(optimizer, "is_paged", False) and torch.cuda.is_available():
        torch.cuda.synchronize()
