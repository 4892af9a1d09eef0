"""The optimizer and its own arguments: one class for each optimizer._target_ that conf has, and one for others."""

from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)

from sweeplab.records.section import Section, key
from sweeplab.runtime.errors import refuse

_OPTIMIZER_HOMES: Final = ("torch.optim.", "bitsandbytes.optim.", "schedulefree.", "sweeplab.training.sophia.")

_TARGET: Final = key("the class", alias="_target_")


def _share(meaning: str) -> Any:
    return key(meaning, None, ge=0, rule="must be a number from 0", remedy="use 0 for none")


def _own(meaning: str) -> Any:
    """An argument that is left to the class where nobody gives it, and whose value the class judges."""
    return key(meaning, None)


class OptimizerConfig(Section):
    """What every optimizer has. What is not given is not passed on, and has the class's own default."""

    model_config = ConfigDict(serialize_by_alias=True)

    target: str = _TARGET
    lr: float = key("peak learning rate", gt=0, rule="must be a number above 0", remedy="try 3e-4")

    def arguments(self) -> dict[str, Any]:
        """What the class is given."""
        given = self.model_fields_set | (self.model_extra or {}).keys()
        return {name: getattr(self, name) for name in self.ordered_names() if name in given and name != "target"}

    def ordered_names(self) -> list[str]:
        """Every argument's name, those of `OtherOptimizer` last."""
        return [*type(self).model_fields, *(self.model_extra or {})]

    @model_serializer(mode="wrap")
    def _only_given(self, _: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"_target_": self.target, **self.arguments()}

    def is_of_torch(self) -> bool:
        return self.target.startswith("torch.")


def _decay() -> Any:
    return _share("decay of matrices; what has one dimension does not decay")


class _Betas(OptimizerConfig):
    betas: list[Annotated[float, Field(ge=0, lt=1)]] | None = key(
        "decay of the averages of gradients and of their squares",
        None,
        min_length=2,
        rule="must be numbers from 0 to below 1",
        remedy="try [0.9,0.999]",
    )
    eps: Any = _own("added to a denominator")
    weight_decay: float | None = _decay()


class _Adam(_Betas):
    amsgrad: Any = _own("keep the largest second moment")


class _TorchKernels(OptimizerConfig):
    maximize: Any = _own("climb instead of descending")
    foreach: Any = _own("all parameters in one call")
    capturable: Any = _own("inside a CUDA graph")
    differentiable: Any = _own("autograd through the step")
    fused: Any = _own("one kernel for all parameters, on CPUs too")


class AdamOptimizer(_TorchKernels, _Adam):
    """Kingma and Ba 2014, arXiv 1412.6980."""

    target: Literal["torch.optim.Adam"] = _TARGET
    decoupled_weight_decay: Any = _own("decay as AdamW does")


class AdamWOptimizer(_TorchKernels, _Adam):
    """Loshchilov and Hutter 2017, arXiv 1711.05101."""

    target: Literal["torch.optim.AdamW"] = _TARGET


class SgdOptimizer(OptimizerConfig):
    """Stochastic gradient descent with a momentum."""

    target: Literal["torch.optim.SGD"] = _TARGET
    momentum: float | None = _share("decay of the average of gradients")
    dampening: Any = key("share of a gradient that its average leaves out", None, needs="optimizer.momentum")
    weight_decay: float | None = _decay()
    nesterov: Any = _own("look ahead along the momentum")
    maximize: Any = _own("climb instead of descending")
    foreach: Any = _own("all parameters in one call")
    differentiable: Any = _own("autograd through the step")
    fused: Any = _own("one kernel for all parameters, on CPUs too")


class AdafactorOptimizer(OptimizerConfig):
    """Second moments by row and column only. Shazeer and Stern 2018, arXiv 1804.04235."""

    target: Literal["torch.optim.Adafactor"] = _TARGET
    beta2_decay: Any = _own("decay of second moments by step")
    eps: Any = _own("added to squares, and to a matrix's size")
    d: Any = _own("where an update is clipped")
    weight_decay: float | None = _decay()
    foreach: Any = _own("all parameters in one call")
    maximize: Any = _own("climb instead of descending")


class MuonOptimizer(OptimizerConfig):
    """The momentum made orthogonal; matrices only. Jordan et al. 2024, kellerjordan.github.io/posts/muon."""

    target: Literal["torch.optim.Muon"] = _TARGET
    weight_decay: float | None = _decay()
    momentum: float | None = _share("decay of the average of gradients")
    nesterov: Any = _own("look ahead along the momentum")
    ns_coefficients: Any = _own("of the Newton-Schulz iteration")
    eps: Any = _own("added to a denominator")
    ns_steps: Any = _own("Newton-Schulz iterations")
    adjust_lr_fn: Any = _own("match_rms_adamw: updates as large as AdamW's; original: as published")


class _Blocks(OptimizerConfig):
    optim_bits: Any = _own("bits of the states")
    args: Any = _own("bitsandbytes' own")
    min_8bit_size: Any = _own("entries below which a state keeps 32 bits")


class AdamW8bitOptimizer(_Blocks, _Adam):
    """States in 8 bits per block of 256. Dettmers et al. 2021, arXiv 2110.02861."""

    target: Literal["bitsandbytes.optim.AdamW8bit"] = _TARGET
    is_paged: Any = _own("states move to the CPU's memory when the GPU's is full")


class LionOptimizer(_Blocks):
    """The sign of a momentum: one state a weight. Chen et al. 2023, arXiv 2302.06675."""

    target: Literal["bitsandbytes.optim.Lion"] = _TARGET
    betas: list[Annotated[float, Field(ge=0, lt=1)]] | None = key(
        "decay of the averages",
        None,
        min_length=2,
        rule="must be numbers from 0 to below 1",
        remedy="try [0.9,0.99]",
    )
    weight_decay: float | None = _decay()
    is_paged: Any = _own("states move to the CPU's memory when the GPU's is full")


class PagedAdamWOptimizer(_Blocks, _Adam):
    """States that move to the CPU's memory when the GPU's is full. arXiv 2305.14314, section 3."""

    target: Literal["bitsandbytes.optim.PagedAdamW32bit", "bitsandbytes.optim.PagedAdamW8bit"] = _TARGET


class ScheduleFreeOptimizer(_Betas):
    """AdamW whose evaluated weights are an average of the trained ones. Defazio et al. 2024, arXiv 2405.15682."""

    target: Literal["schedulefree.AdamWScheduleFree"] = _TARGET
    warmup_steps: Any = _own("steps in which the rate rises, in place of the schedule's")
    r: Any = _own("power of the step in the average")
    weight_lr_power: Any = _own("power of the rate in the average")
    foreach: Any = _own("all parameters in one call")


class SophiaOptimizer(_Betas):
    """A momentum over the curvature's diagonal, clipped. Liu et al. 2023, arXiv 2305.14342."""

    target: Literal["sweeplab.training.sophia.SophiaG"] = _TARGET
    gamma: Any = _own("where an update is clipped")
    interval: Any = _own("steps between estimates of the curvature")


class OtherOptimizer(OptimizerConfig):
    """Another class of these packages, which itself says what it takes."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="after")
    def _check_home(self) -> Self:
        if not self.target.startswith(_OPTIMIZER_HOMES):
            raise refuse(
                "optimizer._target_",
                f"must name an optimizer of {' or '.join(home.rstrip('.') for home in _OPTIMIZER_HOMES)}",
                self.target,
                "try torch.optim.AdamW",
            )
        return self


OPTIMIZERS: Final[dict[str, type[OptimizerConfig]]] = {
    target: kind
    for kind in (
        *(AdamOptimizer, AdamWOptimizer, SgdOptimizer, AdafactorOptimizer, MuonOptimizer, AdamW8bitOptimizer),
        *(LionOptimizer, PagedAdamWOptimizer, ScheduleFreeOptimizer, SophiaOptimizer),
    )
    for target in get_args(kind.model_fields["target"].annotation)
}


def _kind(values: Any) -> str:
    """The tag of `AnyOptimizer`: the target that conf has, else `other`."""
    target = values.get("_target_") if isinstance(values, dict) else getattr(values, "target", None)
    return OPTIMIZERS[target].__name__ if target in OPTIMIZERS else "other"


AnyOptimizer = Annotated[
    Annotated[AdamOptimizer, Tag("AdamOptimizer")]
    | Annotated[AdamWOptimizer, Tag("AdamWOptimizer")]
    | Annotated[SgdOptimizer, Tag("SgdOptimizer")]
    | Annotated[AdafactorOptimizer, Tag("AdafactorOptimizer")]
    | Annotated[MuonOptimizer, Tag("MuonOptimizer")]
    | Annotated[AdamW8bitOptimizer, Tag("AdamW8bitOptimizer")]
    | Annotated[LionOptimizer, Tag("LionOptimizer")]
    | Annotated[PagedAdamWOptimizer, Tag("PagedAdamWOptimizer")]
    | Annotated[ScheduleFreeOptimizer, Tag("ScheduleFreeOptimizer")]
    | Annotated[SophiaOptimizer, Tag("SophiaOptimizer")]
    | Annotated[OtherOptimizer, Tag("other")],
    Discriminator(_kind),
]
