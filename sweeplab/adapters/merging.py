"""Adapters into weights: merge an adapter or a weighted sum of several, compare logits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from peft import PeftModel, load_peft_weights, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from sweeplab.adapters.attach import LORA_FOLDER, LoraWithPrefix, attach
from sweeplab.adapters.baselines import load_trained
from sweeplab.config.adapter import AdapterConfig
from sweeplab.config.model import ModelConfig
from sweeplab.models.vision import image_size, is_image_classifier
from sweeplab.runtime.errors import ConfigError, first_line

PROBE_ROWS: Final = 4
PROBE_TOKENS: Final = 64
TIES_DENSITY: Final = 0.2  # of the entries kept; Yadav et al. 2023, arXiv 2306.01708, section 4


def attach_trained(
    base: PreTrainedModel, adapter: AdapterConfig, model: ModelConfig, seed: int, folder: Path
) -> nn.Module:
    """`base` with what a trial left in `folder`, in evaluation mode, changed in place.

    The adapter is attached under the trial's own seed before its weights are loaded, since some initialisations take
    their start out of the base's weights. Raises `ConfigError` for weights of another shape or name.
    """
    adapted = attach(base, adapter, model, seed)
    if not isinstance(adapted, PeftModel):
        load_trained(base, folder)
    else:
        if isinstance(adapted, LoraWithPrefix):
            load_peft(adapted.lora[0], folder / LORA_FOLDER)
        load_peft(adapted, folder)
    return adapted.eval()


def load_peft(adapted: PeftModel, folder: Path) -> None:
    """Gives `adapted` the weights in `folder`. Raises `ConfigError` for weights of another shape or name."""
    refuse_pickled(folder)
    try:
        result: Any = set_peft_model_state_dict(adapted, load_peft_weights(str(folder), device="cpu"))
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ConfigError(
            f"{folder} holds no adapter of this trial: {first_line(error)}; run the trial again"
        ) from error
    unknown = set(result.unexpected_keys) - {"prompt_embeddings"}  # PEFT loads these itself, and names them even so
    if unknown:
        raise ConfigError(f"{folder} holds weights that the trial has not: {min(unknown)}; run it again")


def refuse_pickled(folder: Path) -> None:
    """PEFT would take adapter_model.bin, or ask the hub. Raises `ConfigError` where there is no safetensors file."""
    if not (folder / SAFETENSORS_WEIGHTS_NAME).is_file():
        raise ConfigError(
            f"{folder} holds no {SAFETENSORS_WEIGHTS_NAME} (pickled weights are not loaded); run the trial again"
        )


def with_adapter(model: nn.Module, folder: Path, name: str) -> PeftModel:
    """`model` with the adapter in `folder` beside those it has, changed in place. Raises `ConfigError`."""
    refuse_pickled(folder)
    try:
        if isinstance(model, PeftModel):
            model.load_adapter(str(folder), adapter_name=name)
            return model
        return PeftModel.from_pretrained(model, str(folder), adapter_name=name)
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"{folder} holds no adapter: {first_line(error)}; run the trial again") from error


def attach_combined(
    base: PreTrainedModel, folders: Sequence[Path], weights: Sequence[float], combination: str
) -> PeftModel:
    """`base` with one adapter made of several, in evaluation mode, changed in place.

    The sum over i of weight_i * scaling_i * B_i A_i: exactly with `cat`, whose rank is the sum of all ranks; its best
    approximation of the largest rank with `svd`. `linear` and `ties` (Yadav et al. 2023, arXiv 2306.01708) add A and B
    apart, so that products across adapters come in. Raises `ConfigError` where PEFT cannot.
    """
    names = [f"adapter_{place}" for place in range(len(folders))]
    adapted: nn.Module = base
    for name, folder in zip(names, folders, strict=True):
        adapted = with_adapter(adapted, folder, name)
    assert isinstance(adapted, PeftModel)
    density = TIES_DENSITY if combination == "ties" else None
    try:
        lora: Any = adapted.base_model
        lora.add_weighted_adapter(
            names, list(weights), "default", combination, density=density, svd_full_matrices=False
        )
    except ValueError as error:
        raise ConfigError(f"export.combination={combination} fails: {first_line(error)}; try cat") from error
    config: Any = adapted.peft_config["default"]
    config.use_rslora = False  # PEFT 0.21 would scale the sum by sqrt(rank) once more
    for module in adapted.modules():
        if isinstance(module, LoraLayer) and "default" in module.scaling:
            module.scaling["default"] = 1.0
    adapted.set_adapter("default")
    for name in names:
        adapted.delete_adapter(name)
    return adapted.eval()


def untie_adapted_head(adapted: PeftModel) -> None:
    """An output head that shares its weights with the embedding gets its own: the adapter is the head's alone."""
    model: Any = adapted.get_base_model()
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if not isinstance(head, BaseTunerLayer):
        return
    layer = head.get_base_layer()
    if layer.weight is embedding.weight:
        layer.weight = nn.Parameter(layer.weight.detach().clone(), requires_grad=False)
        model.config.tie_word_embeddings = False


def merge(adapted: nn.Module) -> PreTrainedModel:
    """The base with the adapter in its weights, W + scaling * B A, and no module more than it has alone.

    A base whose own weights were trained is that already.
    """
    if isinstance(adapted, PreTrainedModel):
        return adapted.requires_grad_(False)
    assert isinstance(adapted, PeftModel)
    untie_adapted_head(adapted)
    lora: Any = adapted.base_model
    merged = lora.merge_and_unload()
    assert isinstance(merged, PreTrainedModel)
    return merged.requires_grad_(False)


def probe_inputs(config: PretrainedConfig) -> dict[str, Tensor]:
    """What the forward of a model takes, drawn under a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    if is_image_classifier(config):
        size = image_size(config)
        shape = (PROBE_ROWS, size.num_channels, size.side, size.side)
        return {"pixel_values": torch.randn(shape, generator=generator)}
    width = min(PROBE_TOKENS, getattr(config, "max_position_embeddings", PROBE_TOKENS))
    return {"input_ids": torch.randint(config.vocab_size, (PROBE_ROWS, width), generator=generator)}


@torch.no_grad()
def probe_logits(model: nn.Module) -> Tensor:
    """Logits of a fixed batch in evaluation mode, on the CPU: of random tokens, shape (4, up to 64, vocabulary), or of
    random images, shape (4, classes)."""
    config: Any = model.config
    device = next(model.parameters()).device
    inputs = {name: given.to(device) for name, given in probe_inputs(config).items()}
    logits: Tensor = model.eval()(**inputs).logits
    return logits.to("cpu", torch.promote_types(logits.dtype, torch.float32))


def largest_difference(found: Tensor, expected: Tensor) -> float:
    """Of any two entries, absolute; NaN where one is."""
    return (found - expected).abs().max().item()
