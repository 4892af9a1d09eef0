"""Quantization of the frozen base: the scheme of each matrix, and the memory that the base takes."""

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from sweeplab.config.quantization import HQQ_BITS, QuantizationConfig
from sweeplab.runtime.errors import ConfigError

if TYPE_CHECKING:
    from sweeplab.models.layers import LinearShape


def keep_packing(model: nn.Module) -> None:
    """Makes every 4-bit layer compute from the weights as they were quantized, in evaluation as in training.

    On a CPU with AVX512-BF16, bitsandbytes 0.50 repacks a layer at its first forward without gradients: scales rounded
    to bfloat16, products in bfloat16, and an assertion where a dimension is no multiple of 32. What is scored would
    not be what was trained, and a trial would find another base than the one before it.
    """
    from bitsandbytes.nn.modules import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def make_bitsandbytes_config(quantization: QuantizationConfig, dtype: torch.dtype, head: str | None) -> Any:
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
        bnb_4bit_use_double_quant=quantization.is_double,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=kept,
    )


def choose_schemes(quantization: QuantizationConfig, shapes: Iterable["LinearShape"]) -> dict[str, str]:
    """The scheme of every matrix by name: that of the first pattern that matches it, else `scheme`.

    `shapes` does not contain the head. Raises `ConfigError` for a pattern that matches no matrix, and for groups that
    do not fill a matrix.
    """
    known = list(shapes)
    for pattern in quantization.patterns:
        if not any(re.search(pattern, shape.name) for shape in known):
            names = ", ".join(dict.fromkeys(shape.name.rpartition(".")[2] for shape in known))
            raise ConfigError(
                f"quantization.pattern must match matrices, and {pattern!r} matches none; there are {names} "
                f"(such as {known[0].name}); correct the pattern, or drop it"
            )
    schemes = {}
    for shape in known:
        matched = (scheme for pattern, scheme in quantization.patterns.items() if re.search(pattern, shape.name))
        schemes[shape.name] = next(matched, quantization.scheme)
        if schemes[shape.name] in HQQ_BITS:
            _refuse_unfilled_groups(quantization.num_per_group, HQQ_BITS[schemes[shape.name]], shape)
    return schemes


def _refuse_unfilled_groups(group_size: int, bits: int, shape: "LinearShape") -> None:
    """Raises `ConfigError` where groups do not fill whole bytes: HQQ packs 4 groups of 2 bits, 2 of 4 bits."""
    together = {2: 4, 3: 1, 4: 2}[bits]
    num_weights = shape.in_features * shape.out_features
    if num_weights % (group_size * together):
        raise ConfigError(
            f"quantization.group_size must divide every matrix, for {bits} bits into a multiple of {together} groups, "
            f"got {group_size} for {shape.name} ({shape.out_features} x {shape.in_features}); try 64, or give this "
            "matrix another scheme in quantization.pattern"
        )


def find_quantized_layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Every quantized layer, of bitsandbytes or HQQ, by name."""
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

    kinds = (Linear4bit, Linear8bitLt)
    return ((name, one) for name, one in model.named_modules() if isinstance(one, kinds) or hasattr(one, "W_q"))


def list_stored_tensors(module: nn.Module) -> list[torch.Tensor]:
    """The tensors that a quantized matrix has besides its packed weights: scales, their scales and mean; HQQ's zeros.

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
    meta: Any = getattr(module, "meta", None)
    return [] if meta is None else [meta["scale"], meta["zero"]]


class Storage(NamedTuple):
    """The memory of a base without an adapter. Tied weights count once."""

    num_params: int  # before quantization
    num_bytes: int  # of all weights, scales and zeros

    @property
    def bits_per_param(self) -> float:
        """Effective bits per parameter of the whole base.

        A 4-bit matrix counts 4 + 32/64 bits, and with double quantization 4 + 8/64 + 32/(64 x 256) = 4.126953125
        (Dettmers et al. 2023, arXiv 2305.14314, section 3) and 32 bits once for the scales' mean. HQQ packs ten weights
        of 3 bits into 32, so 3.2 bits, and keeps a scale and a zero per group in the compute dtype. Embeddings, norms,
        biases and the head count in the dtype that they are kept in, so a small base lies far above.
        """
        return 8 * self.num_bytes / self.num_params


def measure_storage(model: nn.Module) -> Storage:
    """The number of parameters of `model` before quantization, and the present bytes of its tensors."""
    layers = [layer for _, layer in find_quantized_layers(model)]
    packed = {id(one.W_q if hasattr(one, "W_q") else one.weight): one for one in layers}
    num_params = num_bytes = 0
    for weight in model.parameters():
        layer = packed.get(id(weight))
        num_params += weight.numel() if layer is None else layer.in_features * layer.out_features
        num_bytes += weight.nbytes
    num_bytes += sum(tensor.nbytes for layer in layers for tensor in list_stored_tensors(layer))
    return Storage(num_params, num_bytes)
