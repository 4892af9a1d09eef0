"""Counts parameters exactly on the meta device: takes seconds and no memory for a model of any size."""

from typing import Final, NamedTuple

import torch
from transformers import PretrainedConfig

from sweeplab.adapters.budget import AdaptedShape, count_adapter_params, find_targeted_shapes, fit_to_budget
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
    ExpertShape,
    LinearShape,
    choose_text_names,
    find_decoder_layers,
    find_norm_layers,
    list_expert_shapes,
    list_linear_shapes,
    list_quantizable_shapes,
)
from sweeplab.models.quantization.schemes import choose_schemes
from sweeplab.models.random_weights import make_empty_model
from sweeplab.models.recomputation import is_lean_mlp, is_lean_norm
from sweeplab.models.row_limits import RowLimit, list_row_limits
from sweeplab.models.vision import count_classes, is_image_classifier
from sweeplab.runtime.errors import ConfigError

_ACTIVE_EXPERTS: Final = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "moe_k")


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
    quantizable: tuple[LinearShape, ...]  # the matrices that are quantized: all except the head
    num_text_params: int  # of `num_params` those that text, or an image classifier's image, reaches
    row_limits: tuple[RowLimit, ...]  # on texts that share a row
    experts: tuple[ExpertShape, ...]  # beside `linears`
    num_active_experts: int  # of a block, that a token goes through
    has_lean_norms: bool  # frozen RMSNorms and SwiGLUs that keep less (`models/recomputation.py`)
    has_lean_mlps: bool

    def is_head(self, matrix: LinearShape | AdaptedShape) -> bool:
        """Whether its outputs are a token's logits, or an image's."""
        return matrix.out_features == self.vocab_size


def _read_size(config: PretrainedConfig, name: str, default: int) -> int:
    """A size of the architecture, of sizes that differ by layer the largest, of what it does not name `default`."""
    try:
        value = getattr(config, name, None)
    except RuntimeError:  # transformers gives no attribute that differs by layer; the plain values have the common one
        value = config.to_dict().get(name)
    if isinstance(value, list | tuple):
        value = max((one for one in value if isinstance(one, int)), default=None)
    return int(value) if isinstance(value, int | float) and value else default


def build_skeleton(model: ModelConfig) -> Skeleton:
    """Sizes of `model`, built on the meta device. Raises `ConfigError` where its config cannot be read."""
    built = make_empty_model(read_architecture(model), torch.float32)
    built.tie_weights()
    is_images, config = is_image_classifier(built.config), built.config.get_text_config(decoder=True)
    layers, is_reached = find_decoder_layers(built), choose_text_names(built)
    reached = {name: weight for name, weight in built.named_parameters() if is_reached(name)}
    embedding = None if is_images else built.get_input_embeddings()
    hidden = _read_size(config, "hidden_size", getattr(embedding, "embedding_dim", 0))
    num_heads = _read_size(config, "num_attention_heads", 1)
    key_width = _read_size(config, "head_dim", hidden // num_heads)
    return Skeleton(
        model_type=str(built.config.model_type),
        num_params=sum(weight.numel() for weight in built.parameters()),
        linears=tuple(list_linear_shapes(built)),
        hidden_size=hidden,
        intermediate_size=_read_size(config, "intermediate_size", 4 * hidden),
        num_layers=_read_size(config, "num_hidden_layers", len(layers)),
        num_heads=num_heads,
        vocab_size=count_classes(config) if is_images else _read_size(config, "vocab_size", 0),
        key_size=_read_size(config, "num_key_value_heads", num_heads) * key_width,
        num_bias_params=sum(weight.numel() for name, weight in reached.items() if name.endswith("bias")),
        num_norm_params=sum(
            weight.numel() for module in find_norm_layers(built).values() for weight in module.parameters()
        ),
        num_params_per_layer=sum(weight.numel() for weight in layers[-1].parameters()),
        quantizable=tuple(list_quantizable_shapes(built)),
        num_text_params=sum(weight.numel() for weight in reached.values()),
        row_limits=() if is_images else tuple(list_row_limits(built)),
        experts=tuple(list_expert_shapes(built)),
        num_active_experts=max(_read_size(config, name, 1) for name in _ACTIVE_EXPERTS),
        has_lean_norms=any(map(is_lean_norm, layers[-1].modules())),
        has_lean_mlps=any(is_lean_mlp(module) for layer in layers for module in layer.modules()),
    )


def find_quantized_matrices(quantization: QuantizationConfig, sizes: Skeleton) -> list[tuple[str, LinearShape]]:
    """Every quantized matrix with its scheme. Raises `ConfigError` as `choose_schemes` does."""
    schemes = choose_schemes(quantization, sizes.quantizable)
    return [(schemes[one.name], one) for one in sizes.quantizable if schemes[one.name] != "none"]


def nothing_to_train_error(method: str, model_type: str) -> ConfigError:
    return ConfigError(
        f"adapter={method} finds nothing to train: {model_type} has no such weights; choose adapter=lora"
    )


def no_norms_error(model_type: str) -> ConfigError:
    return ConfigError(
        f"adapter.train_norms=true finds no normalization layer with weights in {model_type}; choose "
        "adapter.train_norms=false"
    )


def count_trainable_params(adapter: AdapterConfig, model: ModelConfig, sizes: Skeleton) -> int:
    """The parameters that `adapter` trains on a model of `sizes`, without building it. Raises `ConfigError`.

    LoRA: r (d_in + d_out) a matrix. prompt: tokens x hidden; prefix: tokens x layers x 2 x d_out of the keys.
    """
    lora = 0
    if isinstance(adapter, LowRankAdapter):
        shapes = find_targeted_shapes(adapter, sizes.model_type, model.modules, sizes.linears, sizes.experts)
        lora = count_adapter_params(fit_to_budget(adapter, shapes), shapes) + _count_params_beside_lora(adapter, sizes)
    if isinstance(adapter, PromptAdapter):
        return adapter.num_virtual_tokens * sizes.hidden_size
    num_tokens = adapter.num_virtual_tokens if isinstance(adapter, PrefixAdapter | LoraPrefixAdapter) else 0
    num_layers = adapter.num_layers if isinstance(adapter, TopLayersAdapter) else 0
    prefix = num_tokens * sizes.num_layers * 2 * sizes.key_size
    baseline = {
        "none": sizes.num_text_params,
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
    """Biases and norms that train with the adapter. Raises `ConfigError` for norms that the model has not."""
    if adapter.train_norms and not sizes.num_norm_params:
        raise no_norms_error(sizes.model_type)
    biases = sizes.num_bias_params if adapter.bias == "all" else 0
    return biases + (sizes.num_norm_params if adapter.train_norms else 0)
