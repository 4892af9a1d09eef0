"""Baselines: methods that train weights of the base itself, prompts or prefixes."""

from pathlib import Path
from typing import Final

from peft import PeftConfig, PrefixTuningConfig, PromptTuningConfig, TaskType
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from sweeplab.adapters.counting import nothing_to_train_error
from sweeplab.config.adapter import AdapterConfig, PromptAdapter, TopLayersAdapter, VirtualTokenAdapter
from sweeplab.models.layers import choose_text_names, find_decoder_layers, find_norm_layers
from sweeplab.runtime.errors import ConfigError

_TRAINED_FILE: Final = "trained.safetensors"


def _choose_parameters(base: PreTrainedModel, adapter: AdapterConfig) -> list[nn.Parameter]:
    """The base's own weights that `adapter.method` trains. Raises `ConfigError` where the architecture has none."""
    is_reached = choose_text_names(base)
    reached = {name: weight for name, weight in base.named_parameters() if is_reached(name)}
    if adapter.method == "none":
        return list(reached.values())
    if adapter.method == "bitfit":
        found = [weight for name, weight in reached.items() if name.endswith("bias")]
    elif adapter.method == "norms":
        found = [weight for module in find_norm_layers(base).values() for weight in module.parameters()]
    else:
        assert isinstance(adapter, TopLayersAdapter)
        found = [weight for layer in find_decoder_layers(base)[-adapter.num_layers :] for weight in layer.parameters()]
    if not found:
        raise nothing_to_train_error(adapter.method, base.config.model_type)
    return found


def unfreeze_base(base: PreTrainedModel, adapter: AdapterConfig) -> PreTrainedModel:
    """`base` with the weights of `adapter.method` trainable and all others frozen, in place."""
    base.requires_grad_(False)
    for weight in _choose_parameters(base, adapter):
        weight.requires_grad_(True)
    return base


def make_virtual_token_config(adapter: VirtualTokenAdapter) -> PeftConfig:
    """PEFT's prompt tuning (random start), or prefix tuning without reparameterization."""
    kind = PromptTuningConfig if isinstance(adapter, PromptAdapter) else PrefixTuningConfig
    return kind(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=adapter.num_virtual_tokens)


def load_base_weights(base: PreTrainedModel, folder: Path) -> None:
    """Loads the weights that `save_base_weights` wrote into `folder`. Raises `ConfigError` where they do not fit."""
    try:
        result = base.load_state_dict(load_file(folder / _TRAINED_FILE), strict=False)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"{folder} holds no weights of this base: {error}; run the trial again") from error
    if result.unexpected_keys:
        raise ConfigError(f"{folder} holds weights that the base has not: {result.unexpected_keys[0]}; run it again")


def save_base_weights(model: nn.Module, folder: Path) -> int:
    """Saves the trained weights of the base as safetensors by name; returns the bytes of the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _TRAINED_FILE
    trained = {name: weight.detach().cpu() for name, weight in model.named_parameters() if weight.requires_grad}
    save_file({name: weight.contiguous() for name, weight in trained.items()}, path)
    return path.stat().st_size
