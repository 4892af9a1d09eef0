"""Activations by arithmetic against the tensors that autograd saves for the backward pass."""

from dataclasses import replace
from typing import Any, Final

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.autograd.graph import saved_tensors_hooks

from sweeplab.config import ModelConfig, TrialConfig
from sweeplab.models.base import architecture
from sweeplab.models.counting import skeleton
from sweeplab.models.lora import lora_config
from sweeplab.models.vision import auto_class
from sweeplab.planning.activations import activations_bytes
from sweeplab.planning.device import PlannedDevice
from sweeplab.planning.memory import adapted_matrices
from tests.conftest import Compose
from tests.models.conftest import PLAIN
from tests.planning.conftest import bound

NUM_LAYERS: Final = 4
LENGTH: Final = 64
SIDE: Final = 16  # of an image in patches of 2 x 2, which are 64, and the class token
BATCH: Final = 2
SIZES: Final = {
    "vocab_size": 500,
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": NUM_LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}
QV: Final = ("query", "value")
LAYERS: Final = ("query", "key", "value", "projection", "mlp")


def planned(
    compose_trial: Compose, model_type: str, toggles: tuple[str, ...], dropout: float, checkpointing: bool
) -> TrialConfig:
    """A trial on a random model of `model_type`; without toggles the base trains."""
    config = compose_trial(f"training.micro_batch_size={BATCH}", "quantization=none")
    more = {"head_dim": 32} if model_type == "qwen3" else {}
    config.model = ModelConfig(
        source="hub", name=model_type, random_init=True, architecture={"model_type": model_type, **SIZES, **more}
    )
    config.adapter = replace(PLAIN, method="lora" if toggles else "none", dropout=dropout)
    for toggle in toggles:
        setattr(config.adapter, f"lora_{toggle}", True)
    config.training.gradient_checkpointing = checkpointing
    return config


def inputs_of(config: TrialConfig) -> dict[str, torch.Tensor]:
    if config.data.is_images():
        return {"pixel_values": torch.randn(BATCH, 1, SIDE, SIDE)}
    ids = torch.randint(2, 500, (BATCH, LENGTH))
    mask = torch.ones_like(ids)
    mask[0, -5:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def saved_bytes(config: TrialConfig, dtype: torch.dtype) -> int:
    """Storage of everything that the forward pass saves, weights and logits apart, each storage counted once."""
    kind = architecture(config.model)
    base = auto_class(kind).from_config(kind, dtype=dtype, attn_implementation="sdpa")
    base.requires_grad_(config.adapter.method == "none")
    base.config.use_cache = False
    if config.training.gradient_checkpointing:
        base.gradient_checkpointing_enable({"use_reentrant": False})
    model: Any = base
    if config.adapter.method == "lora":
        settings: LoraConfig = lora_config(config.adapter, config.model, base)
        model = get_peft_model(base, settings)
    model.train()
    apart = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(**inputs_of(config)).logits
    apart.add(logits.untyped_storage().data_ptr())
    return sum(tensor.untyped_storage().nbytes() for place, tensor in saved.items() if place not in apart)


def predicted_bytes(config: TrialConfig, dtype: torch.dtype) -> int:
    sizes = skeleton(config.model)
    adapted = adapted_matrices(config.adapter, config.model, sizes)
    length = LENGTH + 1 if config.data.is_images() else LENGTH
    return activations_bytes(config, sizes, adapted, bound(length), PlannedDevice("cpu", True, dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("model_type", "toggles", "dropout"),
    [
        ("llama", QV, 0.0),
        ("llama", LAYERS, 0.0),
        ("llama", LAYERS, 0.1),
        ("llama", (), 0.0),
        ("qwen3", QV, 0.0),
        ("phi", QV, 0.0),
        ("phi", LAYERS, 0.0),
    ],
)
def test_activations_are_what_autograd_saves(
    compose_trial: Compose, model_type: str, toggles: tuple[str, ...], dropout: float, dtype: torch.dtype
) -> None:
    config = planned(compose_trial, model_type, toggles, dropout, checkpointing=False)
    assert predicted_bytes(config, dtype) == pytest.approx(saved_bytes(config, dtype), rel=0.08)


@pytest.mark.parametrize("toggles", [QV, LAYERS, ()])
def test_activations_of_images_are_what_autograd_saves(compose_trial: Compose, toggles: tuple[str, ...]) -> None:
    config = planned(compose_trial, "vit", toggles, 0.0, checkpointing=False)
    config.data = compose_trial("model=tiny_vit", "data=digits").data
    config.model.architecture |= {"image_size": SIDE, "patch_size": 2, "num_channels": 1, "num_labels": 10}
    assert predicted_bytes(config, torch.float32) == pytest.approx(saved_bytes(config, torch.float32), rel=0.08)


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable.:FutureWarning")  # as a trial calls it
def test_checkpointing_keeps_the_layers_inputs_and_one_layer(compose_trial: Compose) -> None:
    with_it, without = (planned(compose_trial, "llama", QV, 0.0, checkpointing=on) for on in (True, False))
    one_layer = saved_bytes(without, torch.float32) / NUM_LAYERS
    expected = saved_bytes(with_it, torch.float32) + one_layer
    assert predicted_bytes(with_it, torch.float32) == pytest.approx(expected, rel=0.08)
