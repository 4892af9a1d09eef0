"""Activations by arithmetic against the tensors that autograd saves for the backward pass."""

from typing import Final

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from sweeplab.adapters.counting import build_skeleton
from sweeplab.config.trial import TrialConfig
from sweeplab.multilora.dropout import Extent
from sweeplab.planning.activations import forecast_activations
from sweeplab.planning.memory import find_adapted_matrices
from sweeplab.runtime.device import PlannedDevice
from tests.planning.conftest import bound
from tests.planning.models import LAYERS, PATCHES, QV, SIDE, built, planned, planned_images
from tests.trials import Compose

LENGTH: Final = 64
BATCH: Final = 2
QKV: Final = ("query", "key", "value")
ROTARY_BYTES: Final = 2 * LENGTH * 32  # cosines and sines, one table for all layers and examples; per byte of dtype


def inputs_of(config: TrialConfig) -> dict[str, torch.Tensor]:
    if config.data.is_images():
        return {"pixel_values": torch.randn(BATCH, 1, SIDE, SIDE)}
    ids = torch.randint(2, 500, (BATCH, LENGTH))
    return {"input_ids": ids}  # padding on the right has no mask


def saved_bytes(config: TrialConfig, dtype: torch.dtype) -> int:
    """Storage of everything that the forward pass saves, weights, logits and rotary tables apart, each counted once."""
    extent = Extent(BATCH, PATCHES if config.data.is_images() else LENGTH)
    model = built(config, dtype, extent).model
    apart = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(**inputs_of(config)).logits
    apart.add(logits.untyped_storage().data_ptr())
    sizes = (tensor.untyped_storage().nbytes() for place, tensor in saved.items() if place not in apart)
    return sum(sizes) - (0 if config.data.is_images() else ROTARY_BYTES * dtype.itemsize)


def predicted_bytes(config: TrialConfig, dtype: torch.dtype) -> int:
    sizes = build_skeleton(config.model)
    adapted = find_adapted_matrices(config.adapter, config.model, sizes)
    length = PATCHES if config.data.is_images() else LENGTH
    return forecast_activations(config, sizes, adapted, bound(length), PlannedDevice("cpu", True, dtype)).saved


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("model_type", "toggles", "tolerance"),
    [
        ("llama", QV, 0.001),
        ("llama", LAYERS, 0.001),
        ("llama", (*LAYERS, "head"), 0.001),
        ("llama", (), 0.001),
        ("mistral", QV, 0.001),
        ("qwen2", LAYERS, 0.001),
        ("qwen3", QV, 0.01),  # the first layer's norm of keys, which no adapter reaches
        ("phi", QV, 0.003),
        ("phi", LAYERS, 0.003),
        ("phi", (), 0.002),
        ("phi3", QKV, 0.002),
        ("gpt_neox", QKV, 0.005),
        ("gpt_neox", (), 0.07),  # its second norm keeps an output of its own
        ("mixtral", QV, 0.02),
        ("mixtral", LAYERS, 0.05),  # each expert's W + s B A
        ("qwen2_moe", LAYERS, 0.02),  # and an expert that all tokens go through
    ],
)
def test_activations_are_what_autograd_saves(
    compose_trial: Compose, model_type: str, toggles: tuple[str, ...], tolerance: float, dtype: torch.dtype
) -> None:
    config = planned(compose_trial, model_type, toggles, batch=BATCH, vocab_size=500)
    assert predicted_bytes(config, dtype) == pytest.approx(saved_bytes(config, dtype), rel=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("toggles", "tolerance"),
    [
        (QV, 0.002),
        (LAYERS, 0.002),
        ((*LAYERS, "head"), 0.021),  # its adapter is counted as if it read every token
        ((), 0.002),
    ],
)
def test_activations_of_images_are_what_autograd_saves(
    compose_trial: Compose, toggles: tuple[str, ...], tolerance: float, dtype: torch.dtype
) -> None:
    config = planned_images(compose_trial, toggles, batch=BATCH)
    assert predicted_bytes(config, dtype) == pytest.approx(saved_bytes(config, dtype), rel=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("model_type", ["llama", "phi"])
def test_dropout_keeps_a_byte_a_number(compose_trial: Compose, model_type: str, dtype: torch.dtype) -> None:
    config = planned(compose_trial, model_type, QV, "adapter.dropout=0.1", batch=BATCH, vocab_size=500)
    assert predicted_bytes(config, dtype) == pytest.approx(saved_bytes(config, dtype), rel=0.003)


def test_checkpointing_keeps_the_layers_inputs_alone(compose_trial: Compose) -> None:
    override = "training.gradient_checkpointing=true"
    config = planned(compose_trial, "llama", QV, override, batch=BATCH, vocab_size=500)
    rotary = ROTARY_BYTES * 4  # each layer's own arguments: saved outside of autograd's hooks
    assert predicted_bytes(config, torch.float32) == pytest.approx(
        saved_bytes(config, torch.float32) + rotary, rel=0.01
    )
