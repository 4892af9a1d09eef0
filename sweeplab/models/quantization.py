"""Quantization of the frozen base, and which combinations run at all."""

from typing import Any

import torch
from torch import nn

from sweeplab.config import ConfigError, QuantizationConfig


def resolve_device(device: str) -> torch.device:
    """`auto` is the GPU where there is one. Raises `ConfigError` for a GPU that is not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("executor.device=cuda needs a CUDA device, and torch sees none; use executor.device=cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """dtype of the arithmetic; auto is bfloat16 on a GPU that has it, else float32 (a CPU's bfloat16 is slower)."""
    if precision != "auto":
        dtype = getattr(torch, precision)
        assert isinstance(dtype, torch.dtype)
        return dtype
    return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32


def keep_packing(model: nn.Module) -> None:
    """Has every 4-bit layer compute from the weights as they were quantized, in evaluation as in training.

    On a CPU with AVX512-BF16, bitsandbytes 0.50 repacks a layer at its first forward without gradients: scales rounded
    to bfloat16, products in bfloat16, and an assertion where a dimension is no multiple of 32. What is scored would
    not be what was trained, and a trial would find another base than the one before it.
    """
    from bitsandbytes.nn.modules import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def quantization_config(quantization: QuantizationConfig, dtype: torch.dtype, head: str | None) -> Any:
    """transformers' `BitsAndBytesConfig`, or None for an unquantized base. The output head stays in `dtype`: that of a
    language model is known to transformers, another one has the name `head`.

    nf4 and fp4: 4 bits in blocks of 64 with one scale each (Dettmers et al. 2023, arXiv 2305.14314); int8: one scale
    per row, outlier columns of the input in `dtype` (Dettmers et al. 2022, arXiv 2208.07339).
    """
    from transformers import BitsAndBytesConfig

    if quantization.scheme == "none":
        return None
    kept = None if head is None else [head]
    if quantization.scheme == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=quantization.scheme,
        bnb_4bit_use_double_quant=quantization.double,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=kept,
    )


def stored_tensors(module: nn.Module) -> list[torch.Tensor]:
    """What a matrix of bitsandbytes keeps beside its packed weights: scales, their scales and their mean.

    The tables of levels are left out: they are constants, the same for every matrix.
    """
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

    weight: Any = getattr(module, "weight", None)
    if isinstance(module, Linear4bit):
        state = weight.quant_state
        return [state.absmax, state.state2.absmax, state.offset] if state.nested else [state.absmax]
    if isinstance(module, Linear8bitLt):  # the first forward moves the scales from the weight to the layer's state
        scales: Any = module.state.SCB if weight.SCB is None else weight.SCB
        return [scales]
    return []


def effective_bits_per_param(model: nn.Module) -> float:
    """Bits of all stored weights and scales of a base, without an adapter, over its parameters before quantization.

    A 4-bit matrix counts 4 + 32/64 bits, and with double quantization 4 + 8/64 + 32/(64 x 256) = 4.126953125 (Dettmers
    et al. 2023, arXiv 2305.14314, section 3) and 32 bits once for the scales' mean; embeddings, norms and the head
    count in the dtype that they are kept in, so a small base lies far above 4. Tied weights count once.
    """
    num_params = num_bytes = 0
    for weight in model.parameters():
        state = getattr(weight, "quant_state", None)
        num_params += weight.numel() if state is None else state.shape.numel()
        num_bytes += weight.nbytes
    num_bytes += sum(tensor.nbytes for module in model.modules() for tensor in stored_tensors(module))
    return 8 * num_bytes / num_params
