"""LoRA's own settings as PEFT takes them: targets, ranks within a budget, scaling, patterns, initial values."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel

from sweeplab.config import AdapterConfig, ConfigError, ModelConfig
from sweeplab.models.base import LinearShape, linear_shapes, norm_names
from sweeplab.models.targets import matching, target_modules


class Sized(NamedTuple):
    """An adapter whose rank is settled, the matrices that it stands beside, and what its budget leaves over."""

    adapter: AdapterConfig
    shapes: list[LinearShape]
    leftover: int | None


def targeted_shapes(
    adapter: AdapterConfig, model_type: str, modules: Mapping[str, Iterable[str]] | None, shapes: Iterable[LinearShape]
) -> list[LinearShape]:
    """The matrices of `shapes` that the toggles mean. Raises `ConfigError` as `target_modules` does."""
    known = list(shapes)
    names = [shape.name for shape in known]
    targets = target_modules(adapter, model_type, modules, names)
    wanted = {name for target in targets for name in matching(names, target)}
    return [shape for shape in known if shape.name in wanted]


def rank_of(adapter: AdapterConfig, name: str) -> int:
    """The module's rank: its pattern's where one matches the end of its name (PEFT's rule), else the adapter's."""
    for pattern, rank in adapter.rank_pattern.items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return rank
    return adapter.rank


def num_params(adapter: AdapterConfig, shapes: Iterable[LinearShape]) -> int:
    """Sum of r (d_in + d_out), and d_out more for DoRA's magnitudes. Hu et al. 2021, 4.1; Liu et al. 2024, 4.1."""
    return sum(
        rank_of(adapter, shape.name) * (shape.in_features + shape.out_features)
        + (shape.out_features if adapter.dora else 0)
        for shape in shapes
    )


def sized(adapter: AdapterConfig, shapes: list[LinearShape]) -> Sized:
    """`adapter` with the largest rank whose parameters fit `budget`; as it is where there is none.

    Patterns keep their own ranks. Raises `ConfigError` where not even rank 1 fits.
    """
    if adapter.budget is None:
        return Sized(adapter, shapes, None)
    free = [shape for shape in shapes if rank_of(replace(adapter, rank=0), shape.name) == 0]
    fixed = num_params(replace(adapter, rank=0), shapes)
    per_rank = sum(shape.in_features + shape.out_features for shape in free)
    rank = (adapter.budget - fixed) // per_rank if per_rank else 0
    if rank < 1:
        raise ConfigError(
            f"adapter.budget must hold at least rank 1, {fixed + per_rank:,} parameters for these targets, got "
            f"{adapter.budget:,}; raise it, or switch toggles off"
        )
    fitting = replace(adapter, rank=rank)
    return Sized(fitting, shapes, adapter.budget - num_params(fitting, shapes))


def lora_config(adapter: AdapterConfig, model: ModelConfig, base: PreTrainedModel) -> LoraConfig:
    """PEFT's configuration. Raises `ConfigError` where a toggle matches nothing or a budget is too small."""
    model_type = str(base.config.model_type)
    shapes = linear_shapes(base)
    adapter = sized(adapter, targeted_shapes(adapter, model_type, model.modules, shapes)).adapter
    extra: dict[str, Any] = {}
    if adapter.train_norms:
        extra["modules_to_save"] = norm_names(base)
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=adapter.rank,
        lora_alpha=adapter.effective_alpha(),  # type: ignore[arg-type]  # PEFT's hint says int; it only divides
        lora_dropout=adapter.dropout,
        use_rslora=adapter.rslora,
        use_dora=adapter.dora,
        init_lora_weights=True if adapter.initialization == "default" else adapter.initialization,  # type: ignore[arg-type]
        bias=adapter.bias,  # type: ignore[arg-type]
        rank_pattern=dict(adapter.rank_pattern),
        alpha_pattern=dict(adapter.alpha_pattern),
        target_modules=target_modules(adapter, model_type, model.modules, [shape.name for shape in shapes]),
        fan_in_fan_out=model_type == "gpt2",
        **extra,
    )


def effective_layers(adapted: nn.Module) -> list[dict[str, Any]]:
    """Rank, alpha and scaling of every adapted matrix, as PEFT holds them."""
    layers = []
    for name, module in adapted.named_modules():
        if isinstance(module, LoraLayer):
            for key, rank in module.r.items():
                values = {"rank": rank, "alpha": module.lora_alpha[key], "scaling": module.scaling[key]}
                layers.append({"name": name.removeprefix("base_model.model."), **values})
    return layers


def scaling(adapter: AdapterConfig) -> float:
    """alpha / r, or alpha / sqrt(r) where rank-stabilised."""
    return adapter.effective_alpha() / (math.sqrt(adapter.rank) if adapter.rslora else adapter.rank)
