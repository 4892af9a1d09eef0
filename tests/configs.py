"""Sections of a configuration as tests need them, without conf."""

from typing import Any, Final

from sweeplab.config.adapter import TOGGLES, AdapterConfig, LoraAdapter
from sweeplab.config.parse import own_keys, parse_section
from sweeplab.config.quantization import QuantizationConfig

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
    **{f"lora_{toggle}": False for toggle in TOGGLES},
)


def adapter_of(method: str, **values: Any) -> AdapterConfig:
    """An adapter of `method` with what it takes of a LoRA at query and value, of 4 virtual tokens and of 1 layer."""
    everything = {**PLAIN.to_dict(), "lora_query": True, "lora_value": True, "num_virtual_tokens": 4, "num_layers": 1}
    adapter: AdapterConfig = parse_section("adapter", own_keys("adapter", {**everything, "method": method, **values}))
    return adapter


def quantize(
    scheme: str, double: bool = False, group_size: int | None = None, pattern: dict[str, str] | None = None
) -> QuantizationConfig:
    """A scheme with what it takes of the other arguments."""
    given = {"scheme": scheme, "double": double, "group_size": group_size, "pattern": pattern or None}
    said = {key: value for key, value in given.items() if value is not None}
    quantization: QuantizationConfig = parse_section("quantization", own_keys("quantization", said))
    return quantization
