"""Every family of the toggle table as a random model of two layers."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any, Final

import pytest
import torch
from transformers import PreTrainedModel

from sweeplab.config.adapter import TOGGLES, AdapterConfig
from sweeplab.config.model import ModelConfig
from sweeplab.models.base import read_architecture
from sweeplab.models.vision import choose_auto_class

COMMON: Final = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
GROUPED: Final = {**COMMON, "num_key_value_heads": 2}  # key and value are narrower than query
SIZES: Final[dict[str, dict[str, Any]]] = {
    "llama": GROUPED,
    "mistral": GROUPED,
    "qwen2": GROUPED,
    "qwen3": {**GROUPED, "head_dim": 32},
    "phi": COMMON,
    "phi3": GROUPED,
    "gpt_neox": COMMON,
    "gpt2": {
        "vocab_size": 128,
        "n_embd": 64,
        "n_inner": 192,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 64,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
    },
    "vit": {
        "hidden_size": 64,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 8,
        "patch_size": 2,
        "num_channels": 1,
        "num_labels": 10,
    },
    "opt": {**COMMON, "ffn_dim": 192, "word_embed_proj_dim": 64},
}


PLAIN: Final = AdapterConfig(
    method="lora",
    rank=4,
    alpha_ratio=2.0,
    dropout=0.0,
    rslora=False,
    dora=False,
    initialization="default",
    bias="none",
    train_norms=False,
    rank_pattern={},
    alpha_pattern={},
    lr_pattern={},
    lr_ratio=1.0,
    num_virtual_tokens=4,
    num_layers=1,
    **{f"lora_{toggle}": False for toggle in TOGGLES},
)


@pytest.fixture(scope="session")
def architectures() -> dict[str, ModelConfig]:
    return {
        family: ModelConfig(source="hub", name=family, random_init=True, architecture={"model_type": family, **sizes})
        for family, sizes in SIZES.items()
    }


@pytest.fixture(scope="session")
def random_model(architectures: dict[str, ModelConfig]) -> Callable[[str], PreTrainedModel]:
    """A fresh copy of a family's model, the same at each call."""
    made: dict[str, PreTrainedModel] = {}

    def make(family: str) -> PreTrainedModel:
        if family not in made:
            with torch.random.fork_rng():
                torch.manual_seed(0)
                config = read_architecture(architectures[family])
                made[family] = choose_auto_class(config).from_config(config).eval()
        return deepcopy(made[family])

    return make


@pytest.fixture
def make_adapter() -> Callable[..., AdapterConfig]:
    """A LoRA with the named toggles on."""

    def make(*enabled: str, rank: int = 4, dropout: float = 0.0) -> AdapterConfig:
        made = replace(PLAIN, rank=rank, dropout=dropout)
        for toggle in enabled:
            setattr(made, f"lora_{toggle}", True)
        return made

    return make
