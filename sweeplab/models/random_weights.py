"""Random weights for an architecture, to measure memory and time; created one matrix at a time on the device."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import torch
from transformers import PretrainedConfig, PreTrainedModel

from sweeplab.config.quantization import QuantizationConfig
from sweeplab.models.quantization.layers import mark_quantized, quantize_layer
from sweeplab.models.vision import choose_auto_class
from sweeplab.runtime.errors import ConfigError

RANDOM_INIT_SEED: Final = 0


def choose_attention(config: PretrainedConfig) -> str:
    """torch's attention where the architecture has it in transformers, else the plain one. Raises `ConfigError`."""
    try:
        kind = choose_auto_class(config)._model_mapping[type(config)]
    except KeyError as error:
        raise ConfigError(
            f"model of type {config.model_type} is no causal language model in transformers; choose another model"
        ) from error
    return "sdpa" if kind._supports_sdpa else "eager"


def make_empty_model(config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """The architecture on the meta device: every tensor has a shape, and none has memory."""
    with torch.device("meta"):
        model: PreTrainedModel = choose_auto_class(config).from_config(
            config, dtype=dtype, attn_implementation=choose_attention(config)
        )
        return model


@contextmanager
def _seed_by_name(name: str, device: torch.device) -> Iterator[None]:
    """Within it random numbers depend on the name only, so that no module's values depend on other modules."""
    digest = hashlib.sha256(f"{RANDOM_INIT_SEED} {name}".encode()).digest()
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        yield


def fill_layers(
    model: PreTrainedModel,
    schemes: Mapping[str, str],
    quantization: QuantizationConfig,
    dtype: torch.dtype,
    device: torch.device,
) -> PreTrainedModel:
    """Fills the model of `make_empty_model` with its family's own initial values, on `device` and in `schemes`.

    A matrix is quantized before the next one is made, so the model takes what it takes quantized and one matrix in
    `dtype`. Values: normal with the standard deviation of the architecture (transformers' `initializer_range`).
    """
    for name in [name for name, _ in model.named_modules()]:  # names only: a replaced matrix must go at once
        module = model.get_submodule(name)
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if any(tensor.is_meta for tensor in own):
            module.to_empty(device=device, recurse=False)
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                tensor.data.zero_()  # what the family gives no value
            with _seed_by_name(name, device), torch.no_grad():
                model._init_weights(module)
        if schemes.get(name, "none") != "none":
            model.set_submodule(name, quantize_layer(module, schemes[name], quantization, dtype, device))
    model.tie_weights()
    mark_quantized(model, schemes.values())
    return model
