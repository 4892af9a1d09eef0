"""4-bit layers of fake tensors that compute as bitsandbytes 0.50.2 does on CUDA, through its own registered shapes."""

from types import SimpleNamespace
from typing import Any, Final

import torch
from bitsandbytes.nn.modules import Linear4bit
from torch import Tensor, nn

_BLOCK: Final = 64  # weights with one scale
_SCALES: Final = 256  # scales with one scale, with double quantization


def _make_state(num_weights: int, double: bool, device: torch.device) -> SimpleNamespace:
    """What bitsandbytes keeps beside the packed weights: a `QuantState` without the parts that are never asked."""
    num_blocks = -(-num_weights // _BLOCK)
    if not double:
        return SimpleNamespace(absmax=torch.empty(num_blocks, device=device), nested=False, offset=None, state2=None)
    scales = torch.empty(-(-num_blocks // _SCALES), device=device)
    return SimpleNamespace(
        absmax=torch.empty(num_blocks, dtype=torch.uint8, device=device),
        nested=True,
        offset=torch.empty((), device=device),
        state2=SimpleNamespace(absmax=scales, code=torch.empty(256, device=device)),
    )


def _dequantize(layer: "FakeLinear4bit", dtype: torch.dtype) -> Tensor:
    """The weights in `dtype`; functional.py's `dequantize_4bit`."""
    state, operations = layer.quant_state, torch.ops.bitsandbytes
    absmax = state.absmax
    if state.nested:
        inner = state.state2
        absmax = operations.dequantize_blockwise(absmax, inner.absmax, inner.code, _SCALES, torch.float32)
        absmax = absmax + state.offset
    shape = [layer.out_features, layer.in_features]
    weight: Tensor = operations.dequantize_4bit(layer.weight, absmax, _BLOCK, layer.quant_type, shape, dtype)
    return weight


def dequantize_layer(layer: nn.Module) -> Tensor:
    """The weights of a layer of any kind, in the dtype in which it computes."""
    if isinstance(layer, FakeLinear4bit):
        return _dequantize(layer, layer.compute_dtype)
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight


class _Product(torch.autograd.Function):
    """`MatMul4Bit`: the weights are dequantized again in the backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: "FakeLinear4bit") -> Tensor:
        ctx.layer = layer
        return nn.functional.linear(x, _dequantize(layer, x.dtype), layer.bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return torch.matmul(gradients[0], _dequantize(ctx.layer, gradients[0].dtype)), None


class FakeLinear4bit(Linear4bit):
    """A 4-bit layer as sweeplab makes it (`models/quantization/layers.py`), of weights without values."""

    def __init__(
        self, weight_OI: Tensor, bias: nn.Parameter | None, scheme: str, double: bool, dtype: torch.dtype
    ) -> None:
        nn.Module.__init__(self)
        self.out_features, self.in_features = weight_OI.shape
        packed = torch.empty((weight_OI.numel() + 1) // 2, 1, dtype=torch.uint8, device=weight_OI.device)
        weight: Any = nn.Parameter(packed, requires_grad=False)
        weight.quant_state = _make_state(weight_OI.numel(), double, weight_OI.device)
        weight.quant_type = self.quant_type = scheme
        weight.compress_statistics = double
        weight.quant_storage = self.quant_storage = torch.uint8
        self.register_parameter("weight", weight)
        self.register_parameter("bias", bias)
        self.compute_dtype, self.quant_state = dtype, weight.quant_state

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(self.compute_dtype)
        if torch.is_grad_enabled() and wide.requires_grad:
            made: Tensor = _Product.apply(wide, self)  # type: ignore[no-untyped-call]
        else:  # `gemm_4bit` falls back to this beyond a few rows
            made = nn.functional.linear(wide, _dequantize(self, wide.dtype), self.bias)
        return made.to(x.dtype)
