"""What is trained beside the base: one class for each adapter.method."""

import re
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from sweeplab.records.section import Section, key
from sweeplab.runtime.errors import ConfigError, check_at_least, refuse

TOGGLES: Final = ("query", "key", "value", "projection", "mlp", "head")
_MOST_RANK: Final = 65536
_LESS_RANK: Final = "give a smaller one, since a matrix has no more rank than its smaller side"
_NO_RANK: Final = "use a whole number from 1, or adapter=none quantization=none to train without an adapter"
BASE_CHANGING: Final = ("orthogonal", "olora", "pissa")


def check_expressions(name: str, patterns: Iterable[str]) -> None:
    """Raises `ConfigError` for a pattern that is no regular expression."""
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            rule = "must hold regular expressions over module names"
            raise refuse(name, rule, repr(pattern), f"mend it ({error})") from error


class AdapterConfig(Section):
    """What every method has."""

    method: str
    lr_pattern: dict[str, float] = key("regular expression over parameter names -> factor on optimizer.lr", {})

    @field_validator("lr_pattern")
    @classmethod
    def _check_factors(cls, factors: dict[str, float]) -> dict[str, float]:
        check_expressions("adapter.lr_pattern", factors)
        for pattern, factor in factors.items():
            if not factor > 0:
                raise refuse("adapter.lr_pattern", "must hold factors above 0", f"{pattern}: {factor}", "try 0.5")
        return factors

    def factor_of_b(self) -> float:
        """Rate of LoRA's B over the rate of its A; 1 without them."""
        return self.lr_ratio if isinstance(self, LowRankAdapter) else 1.0

    def has_dropout(self) -> bool:
        """True where the inputs of trained matrices are dropped in training."""
        return isinstance(self, LowRankAdapter) and self.dropout > 0


class LowRankAdapter(AdapterConfig):
    """Low-rank matrices A and B beside matrices of the base. Hu et al. 2021, arXiv 2106.09685."""

    rank: int = key("rank of A and B", unless="adapter.budget", ge=1, remedy=_NO_RANK)
    budget: int | None = key(
        "largest number of trainable parameters; the largest rank within it replaces rank; null: rank decides",
        None,
        ge=1,
        remedy="use null for adapter.rank",
    )
    alpha: float | None = key("numerator of the scaling alpha / rank; null: alpha_ratio * rank", None)
    alpha_ratio: float = key("alpha over rank", unless="adapter.alpha")
    dropout: float = key(
        "share of the inputs of A that is dropped in training", ge=0, lt=1, remedy="try 0.05, or 0 for none"
    )
    rslora: bool = key("scale by alpha / sqrt(rank); Kalajdzievski 2023, arXiv 2312.03732")
    dora: bool = key("magnitude and direction apart; Liu et al. 2024, arXiv 2402.09353")
    initialization: Literal["default", "gaussian", "orthogonal", "olora", "pissa"] = key(
        "how A and B start, as PEFT names it"
    )
    bias: Literal["none", "all", "lora_only"] = key("biases that train beside the adapter")
    train_norms: bool = key("normalization layers train beside the adapter")
    rank_pattern: dict[str, int] = key("regular expression over module names -> rank", {})
    alpha_pattern: dict[str, float] = key("regular expression over module names -> alpha", {})
    lr_ratio: float = key(
        "rate of B over the rate of A (LoRA+); Hayou et al. 2024, arXiv 2402.12354",
        gt=0,
        remedy="use 1 for equal rates",
    )
    lora_query: bool = key("adapt the attention's query matrices")
    lora_key: bool = key("adapt the attention's key matrices")
    lora_value: bool = key("adapt the attention's value matrices")
    lora_projection: bool = key("adapt the attention's output matrices")
    lora_mlp: bool = key("adapt the matrices of the MLP, those of experts too")
    lora_head: bool = key("adapt the output head")

    def enabled(self) -> list[str]:
        """The toggles that are on, in the order of `TOGGLES`."""
        return [toggle for toggle in TOGGLES if getattr(self, f"lora_{toggle}")]

    def effective_alpha(self) -> float:
        """Numerator of the scaling alpha / rank."""
        return self.alpha if self.alpha is not None else self.alpha_ratio * self.rank

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        check_expressions("adapter.rank_pattern", self.rank_pattern)
        check_expressions("adapter.alpha_pattern", self.alpha_pattern)
        if self.rank > _MOST_RANK:
            raise refuse("adapter.rank", f"must be at most {_MOST_RANK}", self.rank, _LESS_RANK)
        for pattern, rank in self.rank_pattern.items():
            if rank > _MOST_RANK:
                raise refuse(f"adapter.rank_pattern.{pattern}", f"must be at most {_MOST_RANK}", rank, _LESS_RANK)
            check_at_least(f"adapter.rank_pattern.{pattern}", rank, 1, "leave the module out of the toggles instead")
        if not self.effective_alpha() > 0:
            raise refuse("adapter.alpha", "must be above 0", self.effective_alpha(), "try adapter.alpha_ratio=2")
        if not self.enabled():
            names = ", ".join(f"lora_{toggle}" for toggle in TOGGLES)
            raise ConfigError(
                f"adapter has every toggle off, so nothing would train; switch on at least one of {names}"
            )
        return self


class LoraAdapter(LowRankAdapter):
    method: Literal["lora"] = "lora"


def _virtual_tokens() -> Any:
    return key("trained tokens before the text", ge=1, unit="tokens", remedy="try 20")


class LoraPrefixAdapter(LowRankAdapter):
    """LoRA and a prefix together. Hu et al. 2021, arXiv 2106.09685, table 16."""

    method: Literal["lora_prefix"] = "lora_prefix"
    num_virtual_tokens: int = _virtual_tokens()


class PromptAdapter(AdapterConfig):
    """Trained input embeddings before the text. Lester et al. 2021, arXiv 2104.08691."""

    method: Literal["prompt"] = "prompt"
    num_virtual_tokens: int = _virtual_tokens()


class PrefixAdapter(AdapterConfig):
    """Trained keys and values before every layer's. Li and Liang 2021, arXiv 2101.00190."""

    method: Literal["prefix"] = "prefix"
    num_virtual_tokens: int = _virtual_tokens()


class BitfitAdapter(AdapterConfig):
    """Biases of the base alone. Ben Zaken et al. 2021, arXiv 2106.10199."""

    method: Literal["bitfit"] = "bitfit"


class NormsAdapter(AdapterConfig):
    """Normalization layers of the base alone. Zhao et al. 2023, arXiv 2312.11420."""

    method: Literal["norms"] = "norms"


class TopLayersAdapter(AdapterConfig):
    """The last layers of the base."""

    method: Literal["top_layers"] = "top_layers"
    num_layers: int = key("layers that train, from the last one", ge=1, remedy="try 2")


class NoAdapter(AdapterConfig):
    """Every weight of the base."""

    method: Literal["none"] = "none"


VirtualTokenAdapter = PromptAdapter | PrefixAdapter | LoraPrefixAdapter
AnyAdapter = Annotated[
    LoraAdapter
    | NoAdapter
    | BitfitAdapter
    | NormsAdapter
    | TopLayersAdapter
    | PromptAdapter
    | PrefixAdapter
    | LoraPrefixAdapter,
    Field(discriminator="method"),
]
LORA_METHODS: Final = ("lora", "lora_prefix")
BASE_WEIGHT_METHODS: Final = ("none", "top_layers")  # bitfit and norms train what quantization leaves alone
VIRTUAL_TOKEN_METHODS: Final = tuple(str(one.model_fields["method"].default) for one in get_args(VirtualTokenAdapter))
