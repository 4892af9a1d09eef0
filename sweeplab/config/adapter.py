"""What is trained beside the base."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from omegaconf import MISSING

from sweeplab.runtime.errors import ConfigError, check_at_least, check_choice, refuse

TOGGLES: Final = ("query", "key", "value", "projection", "mlp", "head")
LORA_METHODS: Final = ("lora", "lora_prefix")
BASE_CHANGING: Final = ("orthogonal", "olora", "pissa")


@dataclass
class AdapterConfig:
    method: str = MISSING  # lora | none | bitfit | norms | top_layers | prompt | prefix | lora_prefix
    rank: int = MISSING
    budget: int | None = None  # trainable parameters; the largest rank within them takes the place of rank
    alpha: float | None = None  # absolute; null: alpha_ratio * rank
    alpha_ratio: float = MISSING
    dropout: float = MISSING
    rslora: bool = MISSING  # scale by alpha / sqrt(rank)
    dora: bool = MISSING  # magnitude and direction apart
    initialization: str = MISSING  # default | gaussian | orthogonal | olora | pissa
    bias: str = MISSING  # none | all | lora_only: biases that train beside the adapter
    train_norms: bool = MISSING  # normalization layers train beside the adapter
    rank_pattern: dict[str, int] = MISSING  # regular expression over module names -> rank
    alpha_pattern: dict[str, float] = MISSING  # regular expression over module names -> alpha
    lr_pattern: dict[str, float] = MISSING  # regular expression over parameter names -> factor on optimizer.lr
    lr_ratio: float = MISSING  # rate of B over the rate of A
    num_virtual_tokens: int = MISSING  # of a prompt or a prefix
    num_layers: int = MISSING  # of top_layers
    lora_query: bool = MISSING
    lora_key: bool = MISSING
    lora_value: bool = MISSING
    lora_projection: bool = MISSING
    lora_mlp: bool = MISSING
    lora_head: bool = MISSING

    def enabled(self) -> list[str]:
        """The toggles that are on, in the order of `TOGGLES`."""
        return [toggle for toggle in TOGGLES if getattr(self, f"lora_{toggle}")]

    def effective_alpha(self) -> float:
        """Numerator of the scaling alpha / rank."""
        return self.alpha if self.alpha is not None else self.alpha_ratio * self.rank


METHODS: Final = ("lora", "none", "bitfit", "norms", "top_layers", "prompt", "prefix", "lora_prefix")
BASE_WEIGHT_METHODS: Final = ("none", "top_layers")  # bitfit and norms train what quantization leaves alone
INITIALIZATIONS: Final = ("default", "gaussian", "orthogonal", "olora", "pissa")
BIASES: Final = ("none", "all", "lora_only")


def check_expressions(key: str, patterns: Iterable[str]) -> None:
    """Raises `ConfigError` for a pattern that is no regular expression."""
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            rule = "must hold regular expressions over module names"
            raise refuse(key, rule, repr(pattern), f"mend it ({error})") from error


def check_adapter(adapter: AdapterConfig) -> None:
    check_choice("adapter.method", adapter.method, METHODS)
    check_at_least("adapter.num_virtual_tokens", adapter.num_virtual_tokens, 1, "try 20")
    check_at_least("adapter.num_layers", adapter.num_layers, 1, "try 2")
    for name in ("rank_pattern", "alpha_pattern", "lr_pattern"):
        check_expressions(f"adapter.{name}", getattr(adapter, name))
    for pattern, factor in adapter.lr_pattern.items():
        if not factor > 0:
            raise refuse("adapter.lr_pattern", "must hold factors above 0", f"{pattern}: {factor}", "try 0.5")
    if adapter.method not in LORA_METHODS:
        return
    check_choice("adapter.initialization", adapter.initialization, INITIALIZATIONS)
    check_choice("adapter.bias", adapter.bias, BIASES)
    check_at_least("adapter.rank", adapter.rank, 1, "use adapter=none to train without one")
    check_at_least("adapter.budget", adapter.budget, 1, "use null for adapter.rank")
    for pattern, rank in adapter.rank_pattern.items():
        check_at_least(f"adapter.rank_pattern.{pattern}", rank, 1, "leave the module out of the toggles instead")
    if not adapter.lr_ratio > 0:
        raise refuse("adapter.lr_ratio", "must be above 0", adapter.lr_ratio, "use 1 for equal rates")
    if not adapter.effective_alpha() > 0:
        raise refuse("adapter.alpha", "must be above 0", adapter.effective_alpha(), "try adapter.alpha_ratio=2")
    if not 0 <= adapter.dropout < 1:
        raise refuse("adapter.dropout", "must be from 0 to below 1", adapter.dropout, "try 0.05, or 0 for none")
    if not adapter.enabled():
        names = ", ".join(f"lora_{toggle}" for toggle in TOGGLES)
        raise ConfigError(f"adapter has every toggle off, so nothing would train; switch on at least one of {names}")


VIRTUAL_TOKEN_METHODS: Final = ("prompt", "prefix", "lora_prefix")
OF_LORA: Final = (
    *("rank", "budget", "alpha", "alpha_ratio", "dropout", "rslora", "dora", "initialization", "bias", "train_norms"),
    *("lr_ratio", *(f"lora_{toggle}" for toggle in TOGGLES)),
)
