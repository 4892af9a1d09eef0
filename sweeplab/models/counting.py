"""Parameters by exact arithmetic on the meta device: seconds, and no weights, for a model of any size."""

from typing import NamedTuple

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from sweeplab.config import AdapterConfig, ModelConfig
from sweeplab.models.base import architecture, linear_layers
from sweeplab.models.targets import matching, target_modules


class LinearShape(NamedTuple):
    """One matrix of the model: out_features x in_features."""

    name: str
    in_features: int
    out_features: int


class Skeleton(NamedTuple):
    """A model's sizes without its weights."""

    model_type: str
    num_params: int  # tied weights counted once
    linears: tuple[LinearShape, ...]
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    vocab_size: int


def linear_shape(name: str, module: nn.Module) -> LinearShape:
    if isinstance(module, Conv1D):
        return LinearShape(name, module.weight.shape[0], module.weight.shape[1])
    assert isinstance(module, nn.Linear)
    return LinearShape(name, module.in_features, module.out_features)


def skeleton(model: ModelConfig) -> Skeleton:
    """Sizes of `model`, built on the meta device. Raises `ConfigError` where its config cannot be read."""
    config = architecture(model)
    with torch.device("meta"):
        built: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    built.tie_weights()
    linears = tuple(linear_shape(name, module) for name, module in linear_layers(built))
    hidden = int(config.hidden_size)
    return Skeleton(
        model_type=str(config.model_type),
        num_params=sum(weight.numel() for weight in built.parameters()),
        linears=linears,
        hidden_size=hidden,
        intermediate_size=int(getattr(config, "intermediate_size", None) or 4 * hidden),
        num_layers=int(config.num_hidden_layers),
        num_heads=int(config.num_attention_heads),
        vocab_size=int(config.vocab_size),
    )


def num_lora_params(adapter: AdapterConfig, model: ModelConfig, sizes: Skeleton) -> int:
    """Sum of r (d_in + d_out) over the targeted matrices; every weight where there is no adapter. Hu et al. 2021, 4.1.

    Raises `ConfigError` where a toggle matches nothing.
    """
    if adapter.method == "none":
        return sizes.num_params
    names = [linear.name for linear in sizes.linears]
    targeted = {
        name
        for target in target_modules(adapter, sizes.model_type, model.modules, names)
        for name in matching(names, target)
    }
    return sum(
        adapter.rank * (linear.in_features + linear.out_features) for linear in sizes.linears if linear.name in targeted
    )
