"""The bits of the base."""

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Final

from omegaconf import MISSING

from sweeplab.config.adapter import check_expressions
from sweeplab.runtime.errors import ConfigError, check_choice, refuse

HQQ_BITS: Final = {"hqq2": 2, "hqq3": 3, "hqq4": 4}


@dataclass
class QuantizationConfig:
    scheme: str = MISSING  # none | nf4 | fp4 | int8 | hqq2 | hqq3 | hqq4
    double: bool = MISSING  # quantize the scales of nf4's and fp4's blocks too
    group_size: int = 128  # weights that share a scale and a zero, for hqq
    pattern: dict[str, str] = field(default_factory=dict)  # regular expression over module names -> scheme

    def schemes(self) -> set[str]:
        """Every scheme that a matrix can have."""
        return {self.scheme, *self.pattern.values()}

    def label(self) -> str:
        """As conf names it, with the patterns: `nf4_dq; mlp: hqq3`."""
        names = {name: f"{name}_dq" for name in ("nf4", "fp4") if self.double}
        parts = [f"{pattern}: {names.get(scheme, scheme)}" for pattern, scheme in self.pattern.items()]
        return "; ".join([names.get(self.scheme, self.scheme), *parts])


SCHEMES: Final = ("none", "nf4", "fp4", "int8", *HQQ_BITS)


def check_quantization(quantization: QuantizationConfig) -> None:
    """Refuses schemes that do not exist or cannot be had here. Raises `ConfigError`."""
    check_choice("quantization.scheme", quantization.scheme, SCHEMES)
    check_expressions("quantization.pattern", quantization.pattern)
    for pattern, scheme in quantization.pattern.items():
        check_choice(f"quantization.pattern.{pattern}", scheme, SCHEMES)
    schemes = quantization.schemes()
    if quantization.double and schemes.isdisjoint(("nf4", "fp4")):
        raise refuse("quantization.double", "goes with nf4 or fp4 only", True, "choose quantization=nf4_dq")
    if quantization.group_size < 8 or quantization.group_size % 8:
        raise refuse("quantization.group_size", "must be a multiple of 8", quantization.group_size, "try 64")
    packed = sorted(schemes & set(HQQ_BITS))
    if packed and find_spec("hqq") is None:
        raise ConfigError(
            f"quantization.scheme={packed[0]} needs the package hqq, which is not installed; "
            "pip install -c constraints.txt -e '.[hqq]', or choose quantization=nf4_dq"
        )
