"""torch's Adafactor without waits of the host: torch reads each weight's and each update's size, twice a weight and
step (`torch/optim/_adafactor.py`, 2.11 to 2.13), of which a 7B model has hundreds."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adafactor, Optimizer, _adafactor


def _step_on_device(
    weights: list[Tensor],
    gradients: list[Tensor],
    row_means: list[Tensor | None],
    column_means: list[Tensor | None],
    means: list[Tensor | None],
    counts: list[Tensor],
    *,
    d: float,
    lr: float,
    beta2_decay: float,
    weight_decay: float,
    eps1: float | None,
    eps2: float,
    maximize: bool,
    **_: Any,
) -> None:
    """As torch's own function of these arguments; the two sizes stay on the device, in float64 as Python has them."""
    for weight, gradient, row, column, mean, count in zip(
        weights, gradients, row_means, column_means, means, counts, strict=True
    ):
        g = -gradient if maximize else gradient
        least = torch.finfo(weight.dtype).eps if eps1 is None else eps1
        count += 1
        step = count.item()  # torch keeps it on the CPU
        share = step**beta2_decay
        alpha = (weight.norm(2).double() / weight.numel() ** 0.5).clamp_(min=eps2) * min(lr, 1 / step**0.5)
        if weight_decay != 0:
            weight.mul_(1 - lr * weight_decay)
        if row is not None and column is not None:
            row.lerp_(torch.norm(g, dim=-1, keepdim=True).square_().div_(g.size(-1)), share)
            column.lerp_(torch.norm(g, dim=-2, keepdim=True).square_().div_(g.size(-2)), share)
            estimate = (row @ column).div_(row.mean(dim=-2, keepdim=True).clamp_(min=least))
        else:
            assert mean is not None
            estimate = mean.lerp_(g * g, share).clone()
        update = estimate.clamp_(min=least * least).rsqrt_().mul_(g)
        size = (update.norm(2).double() / (update.numel() ** 0.5 * d)).clamp_(min=1.0)
        weight.addcmul_(update, (-alpha / size).to(weight.dtype))


@contextmanager
def sizes_on_device(optimizer: Optimizer) -> Iterator[None]:
    """Within it a step of Adafactor on a GPU does not wait for it; on a CPU, and for others, nothing changes."""
    is_waiting = isinstance(optimizer, Adafactor) and optimizer.param_groups[0]["params"][0].device.type == "cuda"
    if not is_waiting:
        yield
        return
    module: Any = _adafactor
    before = module.adafactor
    module.adafactor = _step_on_device
    try:
        yield
    finally:
        module.adafactor = before
