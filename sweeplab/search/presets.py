"""Published recipes by name, and the points that a study tries first."""

from typing import Any, Final, NamedTuple

from sweeplab.config.space import Axis, Params, flatten_keys
from sweeplab.runtime.errors import refuse

QUERY_VALUE: Final = {
    "adapter.lora_query": True,
    "adapter.lora_key": False,
    "adapter.lora_value": True,
    "adapter.lora_projection": False,
    "adapter.lora_mlp": False,
    "adapter.lora_head": False,
}
ALL_LINEAR: Final = {**QUERY_VALUE, "adapter.lora_key": True, "adapter.lora_projection": True, "adapter.lora_mlp": True}


class Preset(NamedTuple):
    """A recipe that somebody published; a study takes the values of the axes that it varies."""

    source: str
    values: Params


PRESETS: Final = {
    "lora_paper": Preset(
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
            **QUERY_VALUE,
        },
    ),
    "qlora": Preset(
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
            **ALL_LINEAR,
        },
    ),
    "raschka": Preset(
        "Raschka 2023, Practical Tips for Finetuning LLMs Using LoRA: Llama 2 7B; a later revision has alpha 128",
        {
            "adapter.rank": 256,
            "adapter.alpha": 512,
            "adapter.alpha_ratio": 2,
            "adapter.dropout": 0.05,
            "optimizer": "adamw",
            "optimizer.lr": 3e-4,
            "optimizer.weight_decay": 0.01,
            **dict.fromkeys(QUERY_VALUE, True),
        },
    ),
    "alpaca_lora": Preset(
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
            **QUERY_VALUE,
        },
    ),
}


def preset_values(name: str, varied: list[Axis]) -> Params:
    """What a recipe says of the axes that are varied. Raises `ConfigError` where it says nothing of any."""
    if name not in PRESETS:
        raise refuse("study.enqueue", "names no recipe", name, f"choose from {', '.join(PRESETS)}, or give a point")
    keys = {axis.key for axis in varied}
    found = {key: value for key, value in PRESETS[name].values.items() if key in keys}
    if not found:
        there = ", ".join(PRESETS[name].values)
        raise refuse("study.enqueue", "must name a recipe that sets an axis of space", name, f"vary one of {there}")
    return {axis.key: found[axis.key] for axis in varied if axis.key in found and axis.active(found)}


def enqueued_point(entry: Any, varied: list[Axis]) -> Params:
    """The values that an entry of `study.enqueue` fixes; other axes are drawn. Raises `ConfigError`."""
    key = f"study.enqueue {entry}"
    if isinstance(entry, str):
        values = preset_values(entry, varied)
    elif isinstance(entry, dict) and entry:
        values = dict(flatten_keys(entry))
    else:
        raise refuse("study.enqueue", "must hold points or names of recipes", entry, "try [qlora, {adapter.rank: 8}]")
    known = {axis.key: axis for axis in varied}
    for name, value in values.items():
        if name not in known:
            raise refuse(key, f"must name axes of space ({', '.join(known) or 'none'})", name, "drop it, or vary it")
        if not known[name].holds(value):
            raise refuse(f"{key}: {name}", f"must be within {known[name].spec()}", value, f"widen space.{name}")
        needed = {other: wanted for other, wanted in known[name].when if other in values}
        if any(values[other] not in wanted for other, wanted in needed.items()):
            raise refuse(f"{key}: {name}", f"goes only with {known[name].spec()['when']}", value, f"drop {name}")
    return {name: known[name].exact(value) for name, value in values.items()}


def enqueued_points(entries: list[Any], varied: list[Axis]) -> list[Params]:
    """The points that a study tries before its sampler draws, in their order. Raises `ConfigError`."""
    return [enqueued_point(entry, varied) for entry in entries]
