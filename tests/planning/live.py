"""Bytes of all live tensors: what PyTorch's allocator would hand out, without its rounding."""

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts every storage from the operation that made it to its end, those of `apart` left out."""

    def __init__(self, apart: Iterable[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known = {tensor.untyped_storage()._cdata for tensor in apart}
        self.now = 0
        self.peak = 0

    def gone(self, place: int, size: int) -> None:
        self.known.discard(place)
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in self.known:
                storage = tensor.untyped_storage()
                place, size = storage._cdata, storage.nbytes()
                self.known.add(place)
                self.now += size
                weakref.finalize(storage, self.gone, place, size)
        self.peak = max(self.peak, self.now)
        return made

    def highest(self) -> int:
        """The peak since it was last asked for."""
        peak, self.peak = self.peak, self.now
        return peak
