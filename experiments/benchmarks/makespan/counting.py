"""Multiply-adds of matrix products, by the formulas of PyTorch's own counter.

Its counter also follows modules, and stops where one gives something that has no gradient, as a frozen base's does.
"""

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class ProductCount(TorchDispatchMode):
    """Counts what runs within it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.multiply_adds: int = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        formula = flop_registry.get(function.overloadpacket)
        if formula is not None:
            self.multiply_adds += int(formula(*args, **(kwargs or {}), out_val=result)) // 2
        return result
