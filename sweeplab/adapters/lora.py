"""Builds PEFT's configuration for LoRA, and describes the adapted matrices."""

from collections.abc import Callable
from typing import Any

from peft import LoraConfig
from peft.tuners.lora import LoraLayer, ParamWrapper
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from sweeplab.adapters.budget import find_targeted_shapes, fit_to_budget
from sweeplab.adapters.counting import no_norms_error
from sweeplab.adapters.targets import (
    Targets,
    describe_parameters,
    find_targets,
    refuse_parameters_in_parts,
    refuse_quantized_parameters,
    shorten_names,
)
from sweeplab.config.adapter import LowRankAdapter
from sweeplab.config.model import ModelConfig
from sweeplab.config.trial import TrialConfig
from sweeplab.models.layers import (
    find_linear_layers,
    find_norm_layers,
    list_expert_shapes,
    list_linear_shapes,
    list_unreached_layers,
)
from sweeplab.models.quantization.schemes import find_quantized_layers
from sweeplab.models.vision import is_image_classifier


def find_targets_of(adapter: LowRankAdapter, model: ModelConfig, base: PreTrainedModel) -> Targets:
    """What PEFT is to adapt of `base`. Raises `ConfigError` as `find_targets` does."""
    linears, experts = [one.name for one in list_linear_shapes(base)], [one.name for one in list_expert_shapes(base)]
    return find_targets(adapter, str(base.config.model_type), model.modules, linears, experts)


def why_alone_on(base: PreTrainedModel, config: TrialConfig) -> str | None:
    """Why a trial needs `base` for itself, beside what `why_exclusive` knows; None where others can train beside it.

    Raises `ConfigError` for one that has not got all of it.
    """
    if not isinstance(config.adapter, LowRankAdapter):
        return None
    why = describe_parameters(find_targets_of(config.adapter, config.model, base).parameters)
    if why is not None:
        refuse_parameters_in_parts(config, why)
    return why


def make_lora_config(adapter: LowRankAdapter, model: ModelConfig, base: PreTrainedModel) -> LoraConfig:
    """PEFT's configuration. Raises `ConfigError` where a toggle matches nothing or a budget is too small."""
    model_type = str(base.config.model_type)
    shapes = list_linear_shapes(base)
    experts = list_expert_shapes(base)
    targeted = find_targeted_shapes(adapter, model_type, model.modules, shapes, experts)
    adapter = fit_to_budget(adapter, targeted)
    extra: dict[str, Any] = {}
    if adapter.train_norms:
        extra["modules_to_save"] = sorted(find_norm_layers(base))
        if not extra["modules_to_save"]:
            raise no_norms_error(model_type)
    targets = find_targets_of(adapter, model, base)
    unreached = list_unreached_layers(base)
    if unreached and targets.modules:
        extra["exclude_modules"] = unreached
    if targets.parameters:
        refuse_quantized_parameters(targets.parameters, (name for name, _ in find_quantized_layers(base)), model_type)
        known = [name for name, _ in base.named_parameters()]
        extra["target_parameters"] = list(shorten_names(targets.parameters, known))
    return LoraConfig(
        task_type=None if is_image_classifier(base.config) else "CAUSAL_LM",
        r=adapter.rank,
        lora_alpha=adapter.effective_alpha(),  # type: ignore[arg-type]  # PEFT's hint says int; it only divides
        lora_dropout=adapter.dropout,
        use_rslora=adapter.rslora,
        use_dora=adapter.dora,
        init_lora_weights=True if adapter.initialization == "default" else adapter.initialization,
        bias=adapter.bias,
        rank_pattern=dict(adapter.rank_pattern),
        alpha_pattern=dict(adapter.alpha_pattern),
        target_modules=targets.modules,
        fan_in_fan_out=any(isinstance(module, Conv1D) for _, module in find_linear_layers(base)),
        **extra,
    )


def name_adapted(name: str, layer: LoraLayer) -> str:
    """The base's own name of what `layer` adapts, a module or a parameter, given PEFT's name of the layer."""
    own = name.removeprefix("base_model.model.")
    return f"{own.replace('.base_layer', '')}.{layer.parameter_name}" if isinstance(layer, ParamWrapper) else own


def describe_adapter_layers(adapted: nn.Module, rate: Callable[[str], float]) -> list[dict[str, Any]]:
    """Rank, alpha and scaling of every adapted matrix, as PEFT holds them, and the peak `rate` of A and of B."""
    layers = []
    for name, module in adapted.named_modules():
        if isinstance(module, LoraLayer):
            for key, rank in module.r.items():
                values = {"rank": rank, "alpha": module.lora_alpha[key], "scaling": module.scaling[key]}
                if isinstance(module, ParamWrapper):
                    values["is_parameter"] = True
                rates = {f"lr_{part}": rate(f"{name}.lora_{part}.{key}.weight") for part in "AB"}
                layers.append({"name": name_adapted(name, module), **values, **rates})
    return layers
