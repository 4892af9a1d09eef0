"""Sections of a configuration as tests need them, without conf."""

import re
from typing import Any, Final

from sweeplab.config.adapter import LoraAdapter
from sweeplab.config.executor import LocalWorkers
from sweeplab.config.parse import own_keys, parse_section

OF_PYTHON: Final = re.compile(r"\b(True|False|None)\b|[\[{(]'")  # a user types true, false, null and [a, b]
PLAIN: Final = LoraAdapter.model_construct(  # unchecked, since every toggle is off
    rank=4,
    alpha_ratio=2.0,
    dropout=0.0,
    rslora=False,
    dora=False,
    initialization="default",
    bias="none",
    train_norms=False,
    lr_ratio=1.0,
    lora_query=False,
    lora_key=False,
    lora_value=False,
    lora_projection=False,
    lora_mlp=False,
    lora_head=False,
)


def adapter_of(method: str, **values: Any) -> Any:
    """An adapter of `method` with what it takes of a LoRA at query and value, of 4 virtual tokens and of 1 layer."""
    everything = {**PLAIN.to_dict(), "lora_query": True, "lora_value": True, "num_virtual_tokens": 4, "num_layers": 1}
    return parse_section("adapter", own_keys("adapter", {**everything, "method": method, **values}))


def quantize(
    scheme: str, double: bool = False, group_size: int | None = None, pattern: dict[str, str] | None = None
) -> Any:
    """A scheme with what it takes of the other arguments."""
    given = {"scheme": scheme, "double": double, "group_size": group_size, "pattern": pattern or None}
    said = {key: value for key, value in given.items() if value is not None}
    return parse_section("quantization", own_keys("quantization", said))


def optimizer_of(values: dict[str, Any]) -> Any:
    """The optimizer of `_target_`, a rate and its own arguments."""
    return parse_section("optimizer", values)


def schedule_of(shape: str, warmup_steps: int | None, warmup_ratio: float, end_factor: float = 0.0) -> Any:
    """A schedule, with what its shape takes of the arguments."""
    values = {"shape": shape, "warmup_steps": warmup_steps, "warmup_ratio": warmup_ratio, "end_factor": end_factor}
    return parse_section("schedule", own_keys("schedule", values))


def workers_of(**values: Any) -> LocalWorkers:
    """One worker on this machine's CPU that trains one trial at once."""
    plain = {"device": "cpu", "num_workers": 1, "cohort_size": 1, "on_out_of_memory": "skip"}
    return LocalWorkers.model_validate({**plain, **values})
