"""Replaces single matrices by quantized layers and back, so that every matrix can have its own scheme."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from sweeplab.config.quantization import HQQ_BITS, QuantizationConfig
from sweeplab.models.quantization.schemes import find_quantized_layers

_OUTLIER_THRESHOLD: Final = 6.0  # of int8's inputs; Dettmers et al. 2022, arXiv 2208.07339, section 3.2


def _make_bitsandbytes_layer(
    weight_OI: Tensor, bias: nn.Parameter | None, scheme: str, double: bool, dtype: torch.dtype
) -> nn.Module:
    """The layer that transformers would put there; its weight is quantized on the weight's device."""
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

    rows, columns = weight_OI.shape
    kind: Any = Linear8bitLt if scheme == "int8" else Linear4bit
    with torch.device("meta"):
        if scheme == "int8":
            layer = kind(columns, rows, bias=False, has_fp16_weights=False, threshold=_OUTLIER_THRESHOLD)
        else:
            layer = kind(columns, rows, False, dtype, compress_statistics=double, quant_type=scheme)
    settings = {name: value for name, value in vars(layer.weight).items() if name != "SCB"}
    packed = type(layer.weight)(weight_OI.cpu(), requires_grad=False, **settings)
    layer.weight = packed.to(weight_OI.device)
    layer.bias = bias
    assert isinstance(layer, nn.Module)
    return layer


def quantize_layer(
    plain: nn.Module, scheme: str, quantization: QuantizationConfig, dtype: torch.dtype, device: torch.device
) -> nn.Module:
    """`plain`, an `nn.Linear` or GPT-2's transposed `Conv1D`, as a layer of `scheme` on `device`."""
    moved: Any = plain.to(device)
    weight_OI = moved.weight.data.T.contiguous() if isinstance(plain, Conv1D) else moved.weight.data
    layer: Any
    if scheme in HQQ_BITS:
        from sweeplab.models.quantization.hqq import make_hqq_layer

        layer = make_hqq_layer(weight_OI, moved.bias, HQQ_BITS[scheme], quantization.num_per_group, dtype)
    else:
        layer = _make_bitsandbytes_layer(weight_OI, moved.bias, scheme, quantization.is_double, dtype)
    layer.source_cls = type(plain)
    assert isinstance(layer, nn.Module)
    return layer.requires_grad_(False)


def quantize_layers(
    model: PreTrainedModel,
    schemes: Mapping[str, str],
    quantization: QuantizationConfig,
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    """Replaces every matrix that `schemes` names, in place, and moves the rest to `device`."""
    for name, scheme in schemes.items():
        if scheme != "none":
            model.set_submodule(name, quantize_layer(model.get_submodule(name), scheme, quantization, dtype, device))
    mark_quantized(model, schemes.values())
    model.to(device)  # type: ignore[arg-type]  # transformers' wrapper hides torch's hint


def mark_quantized(model: PreTrainedModel, schemes: Iterable[str]) -> None:
    """Sets the attributes of the model that PEFT reads before it looks at a layer."""
    used, marks = set(schemes), cast(Any, model)
    marks.is_loaded_in_8bit = "int8" in used
    marks.is_loaded_in_4bit = not {"nf4", "fp4"}.isdisjoint(used)


def dequantize_layer(module: Any) -> nn.Module:
    """The layer that a quantized one stands for, of the class that the architecture has there, dequantized."""
    from transformers.integrations.bitsandbytes import dequantize_bnb_weight

    if hasattr(module, "W_q"):
        weight_OI = module.dequantize()
    else:
        state = getattr(module, "state", None)  # int8's scales, once it has computed
        weight_OI = dequantize_bnb_weight(module.weight, state).detach()
    kind = module.source_cls
    is_conv1d = isinstance(kind, type) and issubclass(kind, Conv1D)
    with torch.device("meta"):
        plain: Any = (
            Conv1D(*weight_OI.shape) if is_conv1d else nn.Linear(weight_OI.shape[1], weight_OI.shape[0], bias=False)
        )
    plain.weight = nn.Parameter(weight_OI.T.contiguous() if is_conv1d else weight_OI, requires_grad=False)
    plain.bias = module.bias
    assert isinstance(plain, nn.Module)
    return plain


def dequantize_layers(model: PreTrainedModel) -> None:
    """Every quantized layer becomes the architecture's own, with the values that the quantized one computes from.

    Unlike `PreTrainedModel.dequantize`, GPT-2's transposed layers come back as they were. A base that is not quantized
    stays as it is.
    """
    for name, module in list(find_quantized_layers(model)):
        model.set_submodule(name, dequantize_layer(module))
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is not None:
        quantizer.remove_quantization_config(model)
