"""Loads adapters, merges one or a weighted sum of several into the weights, and computes logits to compare."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from peft import PeftModel, load_peft_weights, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer, ParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from sweeplab.adapters.attach import LORA_FOLDER, LoraWithPrefix, attach_adapter, silent_on_patterns
from sweeplab.adapters.baselines import load_base_weights
from sweeplab.config.adapter import AdapterConfig
from sweeplab.config.model import ModelConfig
from sweeplab.models.vision import is_image_classifier, read_image_size
from sweeplab.runtime.errors import ConfigError, describe_error

_PROBE_ROWS: Final = 4
_PROBE_TOKENS: Final = 64
_TIES_DENSITY: Final = 0.2  # of the entries kept; Yadav et al. 2023, arXiv 2306.01708, section 4


def attach_trained(
    base: PreTrainedModel, adapter: AdapterConfig, model: ModelConfig, seed: int, folder: Path
) -> nn.Module:
    """`base` with the adapter that a trial saved in `folder`, in evaluation mode, changed in place.

    The adapter is attached under the trial's own seed before its weights are loaded, since some initialisations take
    their start out of the base's weights. Raises `ConfigError` for weights of another shape or name.
    """
    adapted = attach_adapter(base, adapter, model, seed)
    if not isinstance(adapted, PeftModel):
        load_base_weights(base, folder)
    else:
        if isinstance(adapted, LoraWithPrefix):
            _load_peft_weights(adapted.lora[0], folder / LORA_FOLDER)
        _load_peft_weights(adapted, folder)
    return adapted.eval()


def _load_peft_weights(adapted: PeftModel, folder: Path) -> None:
    """Loads the weights in `folder` into `adapted`. Raises `ConfigError` for weights of another shape or name."""
    _refuse_pickled_weights(folder)
    try:
        result: Any = set_peft_model_state_dict(adapted, load_peft_weights(str(folder), device="cpu"))
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ConfigError(
            f"{folder} holds no adapter of this trial: {describe_error(error)}; run the trial again"
        ) from error
    unknown = set(result.unexpected_keys) - {"prompt_embeddings"}  # PEFT loads it, but reports it
    if unknown:
        raise ConfigError(f"{folder} holds weights that the trial has not: {min(unknown)}; run it again")


def _refuse_pickled_weights(folder: Path) -> None:
    """Raises `ConfigError` where there is no safetensors file: PEFT would load adapter_model.bin, or ask the hub."""
    if not (folder / SAFETENSORS_WEIGHTS_NAME).is_file():
        raise ConfigError(
            f"{folder} holds no {SAFETENSORS_WEIGHTS_NAME} (pickled weights are not loaded); run the trial again"
        )


def _add_adapter(model: nn.Module, folder: Path, name: str) -> PeftModel:
    """`model` with the adapter in `folder` in addition to its own, changed in place. Raises `ConfigError`."""
    _refuse_pickled_weights(folder)
    try:
        with silent_on_patterns():
            if isinstance(model, PeftModel):
                model.load_adapter(str(folder), adapter_name=name)
                return model
            return PeftModel.from_pretrained(model, str(folder), adapter_name=name)
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"{folder} holds no adapter: {describe_error(error)}; run the trial again") from error


def attach_combined(
    base: PreTrainedModel, folders: Sequence[Path], weights: Sequence[float], combination: str
) -> PeftModel:
    """`base` with one adapter that is combined from several, in evaluation mode, changed in place.

    The sum over i of weight_i * scaling_i * B_i A_i: exactly with `cat`, whose rank is the sum of all ranks; its best
    approximation of the largest rank with `svd`. `linear` and `ties` (Yadav et al. 2023, arXiv 2306.01708) add A and B
    apart, so that products across adapters come in. Raises `ConfigError` where PEFT cannot.
    """
    names = [f"adapter_{place}" for place in range(len(folders))]
    adapted: nn.Module = base
    for name, folder in zip(names, folders, strict=True):
        adapted = _add_adapter(adapted, folder, name)
    assert isinstance(adapted, PeftModel)
    if any(isinstance(module, ParamWrapper) for module in adapted.modules()):
        # PEFT 0.21 would put the rows of one adapter's experts after those of the other's, as if all were one matrix
        raise ConfigError(
            f"{folders[0]} adapts experts in one tensor, and PEFT cannot combine such adapters; export one trial only"
        )
    density = _TIES_DENSITY if combination == "ties" else None
    try:
        lora: Any = adapted.base_model
        lora.add_weighted_adapter(
            names, list(weights), "default", combination, density=density, svd_full_matrices=False
        )
    except ValueError as error:
        raise ConfigError(f"export.combination={combination} fails: {describe_error(error)}; try cat") from error
    config: Any = adapted.peft_config["default"]
    config.use_rslora = False  # PEFT 0.21 would scale the sum by sqrt(rank) once more
    for module in adapted.modules():
        if isinstance(module, LoraLayer) and "default" in module.scaling:
            module.scaling["default"] = 1.0
    adapted.set_adapter("default")
    for name in names:
        adapted.delete_adapter(name)
    return adapted.eval()


def _untie_adapted_head(adapted: PeftModel) -> None:
    """Gives a head that shares its weights with the embedding its own copy, since only the head has an adapter."""
    model: Any = adapted.get_base_model()
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if not isinstance(head, BaseTunerLayer):
        return
    layer = head.get_base_layer()
    if layer.weight is embedding.weight:
        layer.weight = nn.Parameter(layer.weight.detach().clone(), requires_grad=False)
        model.config.tie_word_embeddings = False


def merge_adapter(adapted: nn.Module) -> PreTrainedModel:
    """The base with the adapter merged into its weights, W + scaling * B A, without any module of the adapter.

    A base whose own weights were trained is that already.
    """
    if isinstance(adapted, PreTrainedModel):
        return adapted.requires_grad_(False)
    assert isinstance(adapted, PeftModel)
    _untie_adapted_head(adapted)
    lora: Any = adapted.base_model
    merged = lora.merge_and_unload()
    assert isinstance(merged, PreTrainedModel)
    return merged.requires_grad_(False)


def make_probe_inputs(config: PretrainedConfig) -> dict[str, Tensor]:
    """Random inputs for the forward of a model, with a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    if is_image_classifier(config):
        size = read_image_size(config)
        shape = (_PROBE_ROWS, size.num_channels, size.side, size.side)
        return {"pixel_values": torch.randn(shape, generator=generator)}
    text = config.get_text_config(decoder=True)  # a part of its own in a model that sees too
    width = min(_PROBE_TOKENS, getattr(text, "max_position_embeddings", _PROBE_TOKENS))
    return {"input_ids": torch.randint(text.vocab_size, (_PROBE_ROWS, width), generator=generator)}


@torch.no_grad()
def compute_probe_logits(model: nn.Module) -> Tensor:
    """Logits of a fixed batch in evaluation mode, on the CPU: of random tokens, shape (4, up to 64, vocabulary), or of
    random images, shape (4, classes)."""
    config: Any = model.config
    device = next(model.parameters()).device
    inputs = {name: given.to(device) for name, given in make_probe_inputs(config).items()}
    logits: Tensor = model.eval()(**inputs).logits
    return logits.to("cpu", torch.promote_types(logits.dtype, torch.float32))


def find_largest_difference(actual: Tensor, expected: Tensor) -> float:
    """The largest absolute difference of two entries; NaN where one of them is."""
    return (actual - expected).abs().max().item()
