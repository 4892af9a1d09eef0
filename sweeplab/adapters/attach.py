"""Attaches the adapter of `adapter.method` to a base, detaches it, and saves the trained weights."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch
from peft import PeftConfig, PeftModel, PeftModelForCausalLM, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from sweeplab.adapters.baselines import make_virtual_token_config, save_base_weights, unfreeze_base
from sweeplab.adapters.lora import make_lora_config
from sweeplab.config.adapter import (
    BASE_CHANGING,
    AdapterConfig,
    LoraAdapter,
    LoraPrefixAdapter,
    LowRankAdapter,
    PrefixAdapter,
    PromptAdapter,
)
from sweeplab.config.model import ModelConfig
from sweeplab.runtime.errors import ConfigError, describe_error

LORA_FOLDER: Final = "lora"  # folder of the LoRA part of method=lora_prefix


def attach_adapter(base: PreTrainedModel, adapter: AdapterConfig, model: ModelConfig, seed: int) -> nn.Module:
    """`base` ready to train, changed in place: a `PeftModel`, or the base itself where its own weights train.

    LoRA: A from PEFT's own initialisation under `seed`, B zero; adapter weights are in 32 bits whatever the base's
    precision (PEFT's default). Raises `ConfigError` where the method does not fit the architecture.
    """
    torch.manual_seed(seed)
    if isinstance(adapter, LoraAdapter):
        config = make_lora_config(adapter, model, base)
        try:
            with silent_on_patterns():
                return get_peft_model(base, config)
        except ValueError as error:  # PEFT's own rules on modules
            raise ConfigError(
                f"model.modules names matrices that PEFT cannot adapt in a {base.config.model_type}: "
                f"{describe_error(error)}; name others, such as those of attention"
            ) from error
    if isinstance(adapter, PromptAdapter | PrefixAdapter):
        return get_peft_model(base, make_virtual_token_config(adapter))
    if isinstance(adapter, LoraPrefixAdapter):
        return LoraWithPrefix(
            get_peft_model(base, make_lora_config(adapter, model, base)), make_virtual_token_config(adapter)
        )
    return unfreeze_base(base, adapter)


@contextmanager
def silent_on_patterns() -> Iterator[None]:
    """PEFT 0.21 looks for patterns of ranks in modules only, and warns of those that a parameter has matched."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The following (rank|alpha)_pattern keys", RuntimeWarning)
        yield


class LoraWithPrefix(PeftModelForCausalLM):
    """A trained prefix for a base that already has LoRA layers; `lora` is the PEFT model that added them."""

    def __init__(self, lora: PeftModel, prefix: PeftConfig) -> None:
        trained = [weight for weight in lora.parameters() if weight.requires_grad]
        super().__init__(lora.get_base_model(), prefix)
        self.lora = (lora,)  # in a tuple, so that torch does not register its modules twice
        for weight in trained:
            weight.requires_grad_(True)  # PEFT's wrapper for the prefix has frozen all weights


def detach_adapter(adapted: nn.Module) -> nn.Module:
    """Removes the adapter and returns the base; its weights are unchanged, bit for bit, where `is_base_kept`."""
    if not isinstance(adapted, PeftModel):
        return adapted.requires_grad_(False)
    lora = adapted.lora[0] if isinstance(adapted, LoraWithPrefix) else adapted
    base: nn.Module = lora.get_base_model() if lora.active_peft_config.is_prompt_learning else lora.unload()
    return base


def is_base_kept(adapter: AdapterConfig) -> bool:
    """True where training does not change any weight of the base, so that the next trial can use it."""
    if isinstance(adapter, PromptAdapter | PrefixAdapter):
        return True
    if not isinstance(adapter, LowRankAdapter):
        return False
    return adapter.bias == "none" and not adapter.train_norms and adapter.initialization not in BASE_CHANGING


def save_adapter(adapted: nn.Module, folder: Path) -> int:
    """Saves the trained weights, in PEFT's format where it has one, without embeddings; returns the bytes written."""
    if not isinstance(adapted, PeftModel):
        return save_base_weights(adapted, folder)
    adapted.save_pretrained(str(folder), save_embedding_layers=False)
    if isinstance(adapted, LoraWithPrefix):
        adapted.lora[0].save_pretrained(str(folder / LORA_FOLDER), save_embedding_layers=False)
    return sum(path.stat().st_size for path in folder.rglob("adapter_*"))
