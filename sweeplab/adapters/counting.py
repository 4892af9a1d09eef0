"""Counts parameters exactly on the meta device: takes seconds and no memory for a model of any size."""

from typing import NamedTuple

import torch
from transformers import PretrainedConfig, PreTrainedModel

from sweeplab.adapters.budget import count_adapter_params, find_targeted_shapes, fit_to_budget
from sweeplab.config.adapter import (
    AdapterConfig,
    LoraPrefixAdapter,
    LowRankAdapter,
    PrefixAdapter,
    PromptAdapter,
    TopLayersAdapter,
)
from sweeplab.config.model import ModelConfig
from sweeplab.config.quantization import QuantizationConfig
from sweeplab.models.base import read_architecture
from sweeplab.models.layers import (
    LinearShape,
    find_decoder_layers,
    find_norm_layers,
    list_linear_shapes,
    list_quantizable_shapes,
)
from sweeplab.models.quantization.schemes import choose_schemes
from sweeplab.models.vision import choose_auto_class, count_classes, is_image_classifier
from sweeplab.runtime.errors import ConfigError


class Skeleton(NamedTuple):
    """A model's sizes without its weights."""

    model_type: str
    num_params: int  # tied weights counted once
    linears: tuple[LinearShape, ...]
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    vocab_size: int  # or classes
    key_size: int  # num_key_value_heads x head_dim
    num_bias_params: int
    num_norm_params: int
    num_params_per_layer: int
    quantizable: tuple[LinearShape, ...]  # the linears that are quantized: all except the head


def _compute_key_size(config: PretrainedConfig) -> int:
    """Entries of one token's keys in one layer."""
    num_heads = int(config.num_attention_heads)
    num_key_heads = int(getattr(config, "num_key_value_heads", None) or num_heads)
    return num_key_heads * int(getattr(config, "head_dim", None) or config.hidden_size // num_heads)


def build_skeleton(model: ModelConfig) -> Skeleton:
    """Sizes of `model`, built on the meta device. Raises `ConfigError` where its config cannot be read."""
    config = read_architecture(model)
    with torch.device("meta"):
        built: PreTrainedModel = choose_auto_class(config).from_config(config)
    built.tie_weights()
    linears = tuple(list_linear_shapes(built))
    hidden = int(config.hidden_size)
    return Skeleton(
        model_type=str(config.model_type),
        num_params=sum(weight.numel() for weight in built.parameters()),
        linears=linears,
        hidden_size=hidden,
        intermediate_size=int(getattr(config, "intermediate_size", None) or 4 * hidden),
        num_layers=int(config.num_hidden_layers),
        num_heads=int(config.num_attention_heads),
        vocab_size=int(count_classes(config) if is_image_classifier(config) else config.vocab_size),
        key_size=_compute_key_size(config),
        num_bias_params=sum(weight.numel() for name, weight in built.named_parameters() if name.endswith("bias")),
        num_norm_params=sum(
            weight.numel() for module in find_norm_layers(built).values() for weight in module.parameters()
        ),
        num_params_per_layer=sum(weight.numel() for weight in find_decoder_layers(built)[-1].parameters()),
        quantizable=tuple(list_quantizable_shapes(built)),
    )


def find_quantized_matrices(quantization: QuantizationConfig, sizes: Skeleton) -> list[tuple[str, LinearShape]]:
    """Every quantized matrix with its scheme. Raises `ConfigError` as `choose_schemes` does."""
    schemes = choose_schemes(quantization, sizes.quantizable)
    return [(schemes[one.name], one) for one in sizes.quantizable if schemes[one.name] != "none"]


def nothing_to_train_error(method: str, model_type: str) -> ConfigError:
    return ConfigError(
        f"adapter={method} finds nothing to train: {model_type} has no such weights; choose adapter=norms or "
        "adapter=lora"
    )


def count_trainable_params(adapter: AdapterConfig, model: ModelConfig, sizes: Skeleton) -> int:
    """The parameters that `adapter` trains on a model of `sizes`, without building it. Raises `ConfigError`.

    LoRA: r (d_in + d_out) a matrix. prompt: tokens x hidden; prefix: tokens x layers x 2 x d_out of the keys.
    """
    lora = 0
    if isinstance(adapter, LowRankAdapter):
        shapes = find_targeted_shapes(adapter, sizes.model_type, model.modules, sizes.linears)
        lora = count_adapter_params(fit_to_budget(adapter, shapes).adapter, shapes) + _count_params_beside_lora(
            adapter, sizes
        )
    if isinstance(adapter, PromptAdapter):
        return adapter.num_virtual_tokens * sizes.hidden_size
    num_tokens = adapter.num_virtual_tokens if isinstance(adapter, PrefixAdapter | LoraPrefixAdapter) else 0
    num_layers = adapter.num_layers if isinstance(adapter, TopLayersAdapter) else 0
    prefix = num_tokens * sizes.num_layers * 2 * sizes.key_size
    baseline = {
        "none": sizes.num_params,
        "bitfit": sizes.num_bias_params,
        "norms": sizes.num_norm_params,
        "top_layers": min(num_layers, sizes.num_layers) * sizes.num_params_per_layer,
        "prefix": prefix,
        "lora_prefix": lora + prefix,
    }
    found = baseline.get(adapter.method, lora)
    if found == 0:
        raise nothing_to_train_error(adapter.method, sizes.model_type)
    return found


def _count_params_beside_lora(adapter: LowRankAdapter, sizes: Skeleton) -> int:
    """Biases and norms that train with the adapter."""
    biases = sizes.num_bias_params if adapter.bias == "all" else 0
    return biases + (sizes.num_norm_params if adapter.train_norms else 0)
