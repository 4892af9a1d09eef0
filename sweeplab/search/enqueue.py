"""`study.enqueue`: the points that a study tries before its sampler draws, and published recipes to name there."""

from typing import Any, Final, NamedTuple

from sweeplab.config.space import Axis, Params, flatten_keys
from sweeplab.runtime.errors import refuse, write_value

_QUERY_VALUE: Final = {
    "adapter.lora_query": True,
    "adapter.lora_key": False,
    "adapter.lora_value": True,
    "adapter.lora_projection": False,
    "adapter.lora_mlp": False,
    "adapter.lora_head": False,
}
_ALL_LINEAR: Final = {
    **_QUERY_VALUE,
    "adapter.lora_key": True,
    "adapter.lora_projection": True,
    "adapter.lora_mlp": True,
}


class _Recipe(NamedTuple):
    """A published recipe; a study uses its values for the axes that it varies."""

    source: str
    values: Params


_RECIPES: Final = {
    "lora_paper": _Recipe(
        "Hu et al. 2021, arXiv 2106.09685, table 11: GPT-2 on E2E",
        {
            "adapter.rank": 4,
            "adapter.alpha": 32,
            "adapter.alpha_ratio": 8,
            "adapter.dropout": 0.1,
            "optimizer": "adamw",
            "optimizer.lr": 2e-4,
            "optimizer.weight_decay": 0.01,
            "schedule": "linear",
            "quantization": "none",
            **_QUERY_VALUE,
        },
    ),
    "qlora": _Recipe(
        "Dettmers et al. 2023, arXiv 2305.14314, appendix B: 7B and 13B; artidoro/qlora, finetune_guanaco_7b.sh",
        {
            "adapter.rank": 64,
            "adapter.alpha": 16,
            "adapter.alpha_ratio": 0.25,
            "adapter.dropout": 0.1,
            "optimizer": "paged_adamw",
            "optimizer.lr": 2e-4,
            "optimizer.weight_decay": 0.0,
            "schedule": "constant",
            "training.gradient_clip": 0.3,
            "quantization": "nf4_dq",
            **_ALL_LINEAR,
        },
    ),
    "raschka": _Recipe(
        "Raschka 2023, Practical Tips for Finetuning LLMs Using LoRA: Llama 2 7B; a later revision has alpha 128",
        {
            "adapter.rank": 256,
            "adapter.alpha": 512,
            "adapter.alpha_ratio": 2,
            "adapter.dropout": 0.05,
            "optimizer": "adamw",
            "optimizer.lr": 3e-4,
            "optimizer.weight_decay": 0.01,
            **dict.fromkeys(_QUERY_VALUE, True),
        },
    ),
    "alpaca_lora": _Recipe(
        "github.com/tloen/alpaca-lora, finetune.py's defaults: LLaMA 7B",
        {
            "adapter.rank": 8,
            "adapter.alpha": 16,
            "adapter.alpha_ratio": 2,
            "adapter.dropout": 0.05,
            "optimizer": "adamw",
            "optimizer.lr": 3e-4,
            "schedule": "linear",
            "training.epochs": 3,
            **_QUERY_VALUE,
        },
    ),
}


def _select_recipe_values(name: str, varied: list[Axis]) -> Params:
    """The recipe's values of the axes that are varied. Raises `ConfigError` where there are none, or no such recipe."""
    if name not in _RECIPES:
        choices = f"choose from {', '.join(_RECIPES)}, or give a point"
        raise refuse("study.enqueue", "must name a known recipe", name, choices)
    keys = {axis.key for axis in varied}
    values = {key: value for key, value in _RECIPES[name].values.items() if key in keys}
    if not values:
        known = ", ".join(_RECIPES[name].values)
        raise refuse("study.enqueue", "must name a recipe that sets an axis of space", name, f"vary one of {known}")
    return {axis.key: values[axis.key] for axis in varied if axis.key in values and axis.active(values)}


def _read_entry(entry: Any, varied: list[Axis]) -> Params:
    """The values that an entry of `study.enqueue` sets; the sampler draws the other axes. Raises `ConfigError`."""
    key = f"study.enqueue {write_value(entry)}"
    if isinstance(entry, str):
        values = _select_recipe_values(entry, varied)
    elif isinstance(entry, dict) and entry:
        values = dict(flatten_keys(entry))
    else:
        raise refuse("study.enqueue", "must list points or names of recipes", entry, "try [qlora, {adapter.rank: 8}]")
    known = {axis.key: axis for axis in varied}
    for name, value in values.items():
        if name not in known:
            raise refuse(key, f"must name axes of space ({', '.join(known) or 'none'})", name, "drop it, or vary it")
        spec = known[name].spec()
        if not known[name].holds(value):
            raise refuse(f"{key}: {name}", f"must be within {write_value(spec)}", value, f"widen space.{name}")
        needed = {other: wanted for other, wanted in known[name].when if other in values}
        if any(values[other] not in wanted for other, wanted in needed.items()):
            rule = f"has effect only with {write_value(spec['when'])}"
            raise refuse(f"{key}: {name}", rule, value, f"drop {name}")
    return {name: known[name].exact(value) for name, value in values.items()}


def read_enqueued_points(entries: list[Any], varied: list[Axis]) -> list[Params]:
    """The points that a study tries before its sampler draws, in the order of the entries. Raises `ConfigError`."""
    return [_read_entry(entry, varied) for entry in entries]
