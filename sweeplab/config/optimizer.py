"""An optimizer that cannot be made is refused here, without importing the package that it is from."""

import math
from typing import Any, Final

from sweeplab.records.typed import is_number
from sweeplab.runtime.errors import ConfigError, refuse

OPTIMIZER_HOMES: Final = ("torch.optim.", "bitsandbytes.optim.", "schedulefree.", "sweeplab.training.sophia.")
ADAM: Final = ("lr", "betas", "eps", "weight_decay", "amsgrad")
TORCH_KERNELS: Final = ("maximize", "foreach", "capturable", "differentiable", "fused")
BLOCKS: Final = ("optim_bits", "args", "min_8bit_size")
ARGUMENTS: Final[dict[str, tuple[str, ...]]] = {  # of conf's optimizers; another one's show when it is made
    "torch.optim.Adafactor": ("lr", "beta2_decay", "eps", "d", "weight_decay", "foreach", "maximize"),
    "torch.optim.Adam": (*ADAM, *TORCH_KERNELS, "decoupled_weight_decay"),
    "torch.optim.AdamW": (*ADAM, *TORCH_KERNELS),
    "torch.optim.Muon": (
        *("lr", "weight_decay", "momentum", "nesterov", "ns_coefficients", "eps", "ns_steps", "adjust_lr_fn"),
    ),
    "torch.optim.SGD": (
        *("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize", "foreach", "differentiable", "fused"),
    ),
    "bitsandbytes.optim.AdamW8bit": (*ADAM, *BLOCKS, "is_paged"),
    "bitsandbytes.optim.Lion": ("lr", "betas", "weight_decay", *BLOCKS, "is_paged"),
    "bitsandbytes.optim.PagedAdamW32bit": (*ADAM, *BLOCKS),
    "bitsandbytes.optim.PagedAdamW8bit": (*ADAM, *BLOCKS),
    "schedulefree.AdamWScheduleFree": (
        *("lr", "betas", "eps", "weight_decay", "warmup_steps", "r", "weight_lr_power", "foreach"),
    ),
    "sweeplab.training.sophia.SophiaG": ("lr", "betas", "gamma", "eps", "weight_decay", "interval"),
}


def check_optimizer(optimizer: Any) -> None:
    """Refuses a class from elsewhere, an argument that it does not take, and numbers out of bounds."""
    target = optimizer.get("_target_") if isinstance(optimizer, dict) else None
    if not isinstance(target, str) or not target.startswith(OPTIMIZER_HOMES):
        raise refuse(
            "optimizer._target_",
            f"must name an optimizer of {' or '.join(home.rstrip('.') for home in OPTIMIZER_HOMES)}",
            target,
            "try torch.optim.AdamW",
        )
    rate = optimizer.get("lr")
    if not is_number(rate) or not 0 < rate < math.inf:
        raise refuse("optimizer.lr", "must be a number above 0", rate, "try 3e-4")
    check_arguments(target, optimizer)
    for name in ("momentum", "weight_decay"):
        value = optimizer.get(name)
        if name in optimizer and not (is_number(value) and 0 <= value < math.inf):
            raise refuse(f"optimizer.{name}", "must be a number from 0", value, "use 0 for none")
    betas = optimizer.get("betas")
    if "betas" in optimizer and not (
        isinstance(betas, list | tuple) and len(betas) > 1 and all(is_number(one) and 0 <= one < 1 for one in betas)
    ):
        raise refuse("optimizer.betas", "must be numbers from 0 to below 1", betas, "try [0.9,0.999]")


def check_arguments(target: str, optimizer: dict[str, Any]) -> None:
    """Raises `ConfigError` for a key that the class does not take."""
    known = ARGUMENTS.get(target)
    if known is None:
        return
    for name in optimizer:
        if name != "_target_" and name not in known:
            raise ConfigError(
                f"optimizer.{name} is no argument of {target}, which takes {', '.join(known)}; drop it, or choose "
                "another optimizer"
            )
