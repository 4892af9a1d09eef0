"""The largest logits that stand in memory."""

from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LargestLogits(TorchDispatchMode):
    """Entries of the largest tensor over the vocabulary, apart from the head's own weights and views of them."""

    def __init__(self, head: nn.Module, vocab_size: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.apart = {weight.untyped_storage().data_ptr() for weight in head.parameters()}
        self.vocab_size = vocab_size
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.shape[-1:] == (self.vocab_size,):
                if tensor.untyped_storage().data_ptr() in self.apart:
                    continue
                self.largest = max(self.largest, tensor.numel())
        return made
