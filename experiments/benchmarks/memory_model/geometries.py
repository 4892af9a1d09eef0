"""The trials whose memory is predicted and measured: each differs from the first in what its name says."""

from pathlib import Path
from typing import Final

from sweeplab.config.compose import trial_config
from sweeplab.config.trial import TrialConfig

LLAMA: Final = {
    "model_type": "llama",
    "vocab_size": 4096,
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}
PHI: Final = {**LLAMA, "model_type": "phi", "intermediate_size": 2048}
ALL: Final = tuple(f"adapter.lora_{toggle}=true" for toggle in ("query", "key", "value", "projection", "mlp", "head"))
LENGTH: Final = 384
PLAIN: Final = (
    "quantization=none",
    "adapter=lora",
    "adapter.rank=8",
    "optimizer=adamw",
    "data=json",
    "data.style=plain",
    "data.mask_prompt=false",
    "training.precision=float32",
    "training.micro_batch_size=4",
    f"training.max_length={LENGTH}",
    "training.max_steps=2",
    "training.log_interval=1",
    "evaluation=none",
    "evaluation.batch_size=2",
)

# name -> architecture, overrides
GEOMETRIES: Final[dict[str, tuple[dict[str, object], tuple[str, ...]]]] = {
    "8 layers of 512": (LLAMA, ()),
    "wide": ({**LLAMA, "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 4}, ()),
    "deep": ({**LLAMA, "hidden_size": 320, "intermediate_size": 896, "num_hidden_layers": 24}, ()),
    "large vocabulary": ({**LLAMA, "vocab_size": 32_000}, ()),
    "large vocabulary, prompt masked": ({**LLAMA, "vocab_size": 32_000}, ("data.mask_prompt=true",)),
    "long": (LLAMA, ("training.max_length=1280", "training.micro_batch_size=1", "evaluation.batch_size=1")),
    "one example": (LLAMA, ("training.micro_batch_size=1",)),
    "rank 256, all matrices": (LLAMA, ("adapter.rank=256", *ALL)),
    "rank 256, all matrices, accumulation": (
        LLAMA,
        ("adapter.rank=256", "training.accumulation=2", "training.micro_batch_size=2", *ALL),
    ),
    "all matrices, dropout": (LLAMA, ("adapter.rank=16", "adapter.dropout=0.05", *ALL)),
    "checkpointing": (LLAMA, ("training.gradient_checkpointing=true", "training.micro_batch_size=8")),
    "sgd, rank 64": (LLAMA, ("adapter.rank=64", "optimizer=sgd", *ALL)),
    "adamw_8bit, rank 256": (LLAMA, ("adapter.rank=256", "optimizer=adamw_8bit", *ALL)),
    "nf4": ({**LLAMA, "hidden_size": 1024, "intermediate_size": 2816}, ("quantization=nf4",)),
    "nf4_dq, all matrices": (
        {**LLAMA, "hidden_size": 1024, "intermediate_size": 2816},
        ("quantization=nf4_dq", "adapter.rank=16", "training.micro_batch_size=2", *ALL),
    ),
    "phi": (PHI, ()),
    "no adapter": (LLAMA, ("adapter=none", "optimizer.lr=1e-4")),
}

# other methods, counted by a slow test only
OTHERS: Final[dict[str, tuple[dict[str, object], tuple[str, ...]]]] = {
    "prefix": (LLAMA, ("adapter=prefix",)),
    "top layer": (LLAMA, ("adapter=top_layers", "adapter.num_layers=1", "optimizer.lr=1e-4")),
}


def geometry(name: str, data: Path) -> TrialConfig:
    """The configuration of one of `GEOMETRIES` or `OTHERS` on the records in `data`."""
    architecture, overrides = (GEOMETRIES | OTHERS)[name]
    values = ",".join(f"{key}:{str(value).lower()}" for key, value in architecture.items())
    model = ("model=hub", "model.name=random", "model.random_init=true", f"++model.architecture={{{values}}}")
    has_rank = not any(override.startswith("adapter=") for override in overrides)
    plain = [one for one in PLAIN if has_rank or not one.startswith("adapter.rank=")]
    return trial_config([*plain, *model, f"data.path={data}", *overrides], {})


def has_padding(name: str) -> bool:
    """True where a micro-batch has several examples, which are rarely of one length."""
    return not any(override == "training.micro_batch_size=1" for override in (GEOMETRIES | OTHERS)[name][1])
