"""Makes a base trainable by the method that conf names, takes that off again, and saves what was trained."""

from pathlib import Path
from typing import Final

import torch
from peft import PeftConfig, PeftModel, PeftModelForCausalLM, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from sweeplab.adapters.baselines import make_virtual_token_config, save_base_weights, unfreeze_base
from sweeplab.adapters.lora import make_lora_config
from sweeplab.config.adapter import BASE_CHANGING, AdapterConfig
from sweeplab.config.model import ModelConfig

LORA_FOLDER: Final = "lora"  # of lora_prefix, beside the prefix


def attach_adapter(base: PreTrainedModel, adapter: AdapterConfig, model: ModelConfig, seed: int) -> nn.Module:
    """`base` ready to train, changed in place: a `PeftModel`, or the base itself where its own weights train.

    LoRA: A from PEFT's own initialisation under `seed`, B zero; adapter weights are in 32 bits whatever the base's
    precision (PEFT's default). Raises `ConfigError` where the method does not fit the architecture.
    """
    torch.manual_seed(seed)
    if adapter.method == "lora":
        return get_peft_model(base, make_lora_config(adapter, model, base))
    if adapter.method in ("prompt", "prefix"):
        return get_peft_model(base, make_virtual_token_config(adapter))
    if adapter.method == "lora_prefix":
        return LoraWithPrefix(
            get_peft_model(base, make_lora_config(adapter, model, base)), make_virtual_token_config(adapter)
        )
    return unfreeze_base(base, adapter)


class LoraWithPrefix(PeftModelForCausalLM):
    """A prefix before a base that holds LoRA's layers already; `lora` is the model that put them there."""

    def __init__(self, lora: PeftModel, prefix: PeftConfig) -> None:
        trained = [weight for weight in lora.parameters() if weight.requires_grad]
        super().__init__(lora.get_base_model(), prefix)
        self.lora = (lora,)  # in a tuple, since its modules stand in the base and count once
        for weight in trained:
            weight.requires_grad_(True)  # the prefix's wrapper froze all that it found


def detach_adapter(adapted: nn.Module) -> nn.Module:
    """The base without its adapter: as it was before `attach_adapter`, bit for bit, where `is_base_kept` says so."""
    if not isinstance(adapted, PeftModel):
        return adapted.requires_grad_(False)
    lora = adapted.lora[0] if isinstance(adapted, LoraWithPrefix) else adapted
    base: nn.Module = lora.get_base_model() if lora.active_peft_config.is_prompt_learning else lora.unload()
    return base


def is_base_kept(adapter: AdapterConfig) -> bool:
    """True where training leaves every weight of the base as it was, so that the next trial can have it."""
    if adapter.method in ("prompt", "prefix"):
        return True
    lora = adapter.method in ("lora", "lora_prefix")
    return lora and adapter.bias == "none" and not adapter.train_norms and adapter.initialization not in BASE_CHANGING


def save_adapter(adapted: nn.Module, folder: Path) -> int:
    """Writes what was trained, in PEFT's format where PEFT has it; bytes of all files. No embedding is copied."""
    if not isinstance(adapted, PeftModel):
        return save_base_weights(adapted, folder)
    adapted.save_pretrained(str(folder), save_embedding_layers=False)
    if isinstance(adapted, LoraWithPrefix):
        adapted.lora[0].save_pretrained(str(folder / LORA_FOLDER), save_embedding_layers=False)
    return sum(path.stat().st_size for path in folder.rglob("adapter_*"))
