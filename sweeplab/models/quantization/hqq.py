"""Half-quadratic quantization to 2, 3 and 4 bits, packed: Badri and Shaji 2023, mobiusml.github.io/hqq_blog.

In a group of weights along a row, w = (q - zero) * scale with q whole, 0 to 2^bits - 1; zero and scale are fitted to
the weights without data, for an error in the p-norm, p = 0.7. Ten weights of 3 bits stand in 32.
"""

from typing import Any

import torch
from hqq.core import quantize
from torch import Tensor, nn


class _FrozenProduct(torch.autograd.Function):
    """x W^T of a frozen packed matrix. Nothing is kept for the backward pass, which dequantizes W again.

    HQQ's own keeps x, which only a gradient of W needs.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: "HQQLinear") -> Tensor:
        ctx.layer = layer
        return x @ layer.dequantize().T

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient @ ctx.layer.dequantize(), None


class HQQLinear(quantize.HQQLinear):  # type: ignore[misc]  # hqq has no hints
    """HQQ's layer, by whose name PEFT knows it, in less memory."""

    def dequantize(self) -> Tensor:
        """(q - zero) * scale, shape (O, I), with no more than one copy in memory."""
        levels: Tensor = self.unpack(dtype=self.compute_dtype)[: len(self.meta["scale"])]  # 3 bits fill up their 32
        return levels.sub_(self.meta["zero"]).mul_(self.meta["scale"]).view(self.meta["shape"])

    def forward_pytorch_backprop(self, x: Tensor) -> Tensor:
        """What HQQ puts in the place of `forward`, on a CPU and on CUDA."""
        product: Tensor = _FrozenProduct.apply(x, self)  # type: ignore[no-untyped-call]
        return product if self.bias is None else product + self.bias


def make_hqq_layer(
    weight_OI: Tensor, bias: nn.Parameter | None, bits: int, group_size: int, dtype: torch.dtype
) -> HQQLinear:
    """A layer on the weight's device; scales and zeros in `dtype`, in which it computes."""
    settings = quantize.BaseQuantizeConfig(nbits=bits, group_size=group_size, axis=1)
    layer: HQQLinear = HQQLinear.from_weights(weight_OI, None, settings, dtype, device=weight_OI.device)
    layer.bias = bias
    return layer
