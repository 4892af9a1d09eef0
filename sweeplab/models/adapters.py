"""Attaches PEFT adapters to a base, takes them off again, and saves them in PEFT's format."""

from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from sweeplab.config import AdapterConfig, ModelConfig
from sweeplab.models.base import linear_layers
from sweeplab.models.targets import target_modules


def lora_config(adapter: AdapterConfig, model: ModelConfig, base: PreTrainedModel) -> LoraConfig:
    """PEFT's configuration for the toggles that are on. Raises `ConfigError` where one matches nothing."""
    linear_names = [name for name, _ in linear_layers(base)]
    model_type = str(base.config.model_type)
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=adapter.rank,
        lora_alpha=adapter.effective_alpha(),  # type: ignore[arg-type]  # PEFT's hint says int; it only divides
        lora_dropout=adapter.dropout,
        target_modules=target_modules(adapter, model_type, model.modules, linear_names),
        fan_in_fan_out=model_type == "gpt2",
    )


def attach(base: PreTrainedModel, adapter: AdapterConfig, model: ModelConfig, seed: int) -> PeftModel:
    """`base` with a fresh adapter: A from PEFT's own initialisation under `seed`, B zero. The base is changed in place.

    Adapter weights are in 32 bits whatever the base's precision (PEFT's default).
    """
    torch.manual_seed(seed)
    return get_peft_model(base, lora_config(adapter, model, base))


def detach(adapted: PeftModel) -> PreTrainedModel:
    """The base as it was before `attach`, bit for bit."""
    base = adapted.unload()
    assert isinstance(base, PreTrainedModel)
    return base


def save_adapter(adapted: PeftModel, folder: Path) -> int:
    """Writes PEFT's `adapter_model.safetensors` and `adapter_config.json`; bytes of both. No embedding is copied."""
    adapted.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
    return sum((folder / name).stat().st_size for name in ("adapter_model.safetensors", "adapter_config.json"))
