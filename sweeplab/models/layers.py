"""Finds matrices, norms, blocks and dropout in a base by the types of its modules."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from torch import nn
from transformers import (
    PreTrainedModel,
)
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.base import get_keys_to_not_convert
from transformers.quantizers.quantizers_utils import should_convert_module

from sweeplab.models.vision import find_image_head

_PLAIN_RATES: Final = ("dropout", "attention_dropout", "layerdrop")  # where they are numbers


def has_randomness(model: nn.Module) -> bool:
    """True where the model has dropout of its own, as GPT-2 and OPT do: in training it draws random numbers.

    transformers' families keep rates in `nn.Dropout` and in plain numbers, OPT also one of skipping whole layers.
    """
    layers = [getattr(module, "p", 0.0) for module in model.modules() if isinstance(module, nn.Dropout)]
    plain = [getattr(module, name, 0.0) for module in model.modules() for name in _PLAIN_RATES]
    return any(isinstance(rate, float) and rate > 0 for rate in (*layers, *plain))


class LinearShape(NamedTuple):
    """One matrix of the model: out_features x in_features."""

    name: str
    in_features: int
    out_features: int


def find_linear_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every matrix that an adapter can be attached to. Layers of bitsandbytes are `nn.Linear`, too; HQQ's are not."""
    kinds = (nn.Linear, Conv1D)
    return ((name, one) for name, one in model.named_modules() if isinstance(one, kinds) or hasattr(one, "W_q"))


def _read_shape(name: str, module: nn.Module) -> LinearShape:
    if isinstance(module, Conv1D):
        return LinearShape(name, module.weight.shape[0], module.weight.shape[1])
    layer: Any = module
    return LinearShape(name, layer.in_features, layer.out_features)


def list_linear_shapes(model: nn.Module) -> list[LinearShape]:
    return [_read_shape(name, module) for name, module in find_linear_layers(model)]


def find_norm_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Every LayerNorm or RMSNorm by name; a family's own class counts by its name."""
    return {name: module for name, module in model.named_modules() if type(module).__name__.endswith("Norm")}


def find_decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The model's blocks from the first to the last: its longest list of modules."""
    return max((module for module in model.modules() if isinstance(module, nn.ModuleList)), key=len)


def list_quantizable_shapes(model: PreTrainedModel) -> list[LinearShape]:
    """The matrices that transformers would quantize: all but the head and what is tied to an embedding."""
    head = find_image_head(model.config)
    kept = get_keys_to_not_convert(model) if head is None else [head]
    return [shape for shape in list_linear_shapes(model) if should_convert_module(shape.name, kept)]
