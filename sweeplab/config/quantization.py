"""The bits of the base: one class for each kind of quantization.scheme, and one for several schemes together."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import Discriminator, Tag, model_validator

from sweeplab.config.adapter import check_expressions
from sweeplab.records.section import Section, key
from sweeplab.runtime.errors import refuse

HQQ_BITS: Final = {"hqq2": 2, "hqq3": 3, "hqq4": 4}
_Scheme = Literal["none", "nf4", "fp4", "int8", "hqq2", "hqq3", "hqq4"]
_FOUR_BIT: Final = ("nf4", "fp4")
_GROUP_SIZE: Final = 128  # published


class QuantizationConfig(Section):
    """What every scheme has."""

    scheme: str

    @property
    def patterns(self) -> dict[str, str]:
        """Regular expression over module names -> scheme, of a base with several."""
        return dict(self.pattern) if isinstance(self, MixedQuantization) else {}

    @property
    def is_double(self) -> bool:
        """True where the scales of 4-bit blocks are quantized too."""
        return isinstance(self, FourBitQuantization | MixedQuantization) and self.double

    @property
    def num_per_group(self) -> int:
        """Weights that share a scale and a zero, of hqq."""
        return self.group_size if isinstance(self, HqqQuantization | MixedQuantization) else _GROUP_SIZE

    def schemes(self) -> set[str]:
        """Every scheme that a matrix can have."""
        return {self.scheme, *self.patterns.values()}

    def label(self) -> str:
        """As conf names it, with the patterns: `nf4_dq; mlp: hqq3`."""
        names = {name: f"{name}_dq" for name in _FOUR_BIT if self.is_double}
        parts = [f"{pattern}: {names.get(scheme, scheme)}" for pattern, scheme in self.patterns.items()]
        return "; ".join([names.get(self.scheme, self.scheme), *parts])


def _double(default: Any = ...) -> Any:
    return key("quantize the scales of the blocks too; arXiv 2305.14314, section 3", default)


def _group_size() -> Any:
    return key(
        "weights that share a scale and a zero",
        _GROUP_SIZE,
        ge=8,
        multiple_of=8,
        rule="must be a multiple of 8",
        remedy="try 64",
    )


class WholeQuantization(QuantizationConfig):
    """No quantization, or bitsandbytes' 8 bits: without settings."""

    scheme: Literal["none", "int8"]


class FourBitQuantization(QuantizationConfig):
    """bitsandbytes' 4 bits. Dettmers et al. 2023, arXiv 2305.14314."""

    scheme: Literal["nf4", "fp4"]
    double: bool = _double()


class HqqQuantization(QuantizationConfig):
    """Half-quadratic quantization. Badri and Shaji 2023, mobiusml.github.io/hqq_blog."""

    scheme: Literal["hqq2", "hqq3", "hqq4"]
    group_size: int = _group_size()


class MixedQuantization(QuantizationConfig):
    """Matrices of some names in another scheme."""

    scheme: _Scheme
    pattern: dict[str, _Scheme] = key("regular expression over module names -> scheme; the first that is found decides")
    double: bool = _double(False)
    group_size: int = _group_size()

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        check_expressions("quantization.pattern", self.pattern)
        if self.double and self.schemes().isdisjoint(_FOUR_BIT):
            raise refuse("quantization.double", "goes with nf4 or fp4 only", True, "choose quantization=nf4_dq")
        if "group_size" in self.model_fields_set and self.schemes().isdisjoint(HQQ_BITS):
            rule = "has no effect without hqq2, hqq3 or hqq4"
            raise refuse("quantization.group_size", rule, self.group_size, "choose quantization=hqq4, or leave it out")
        return self


def _kind(values: Any) -> str:
    """The tag of `AnyQuantization`: mixed with a pattern, else the scheme itself."""
    given = values if isinstance(values, dict) else vars(values)
    return "mixed" if given.get("pattern") else str(given.get("scheme"))


QUANTIZATIONS: Final[dict[str, type[QuantizationConfig]]] = {
    "none": WholeQuantization,
    **dict.fromkeys(_FOUR_BIT, FourBitQuantization),
    "int8": WholeQuantization,
    **dict.fromkeys(("hqq4", "hqq3", "hqq2"), HqqQuantization),
    "mixed": MixedQuantization,
}

AnyQuantization = Annotated[
    Annotated[WholeQuantization, Tag("none")]
    | Annotated[WholeQuantization, Tag("int8")]
    | Annotated[FourBitQuantization, Tag("nf4")]
    | Annotated[FourBitQuantization, Tag("fp4")]
    | Annotated[HqqQuantization, Tag("hqq2")]
    | Annotated[HqqQuantization, Tag("hqq3")]
    | Annotated[HqqQuantization, Tag("hqq4")]
    | Annotated[MixedQuantization, Tag("mixed")],
    Discriminator(_kind),
]
