"""Many trials' low-rank updates beside one frozen matrix, as one step of autograd."""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Update(NamedTuple):
    """K adapters of rank R beside a matrix (out O, in I), for the trials `first` to `first + K` of a batch."""

    first: int
    a_KRI: Tensor
    b_KOR: Tensor
    grad_a_KRI: Tensor
    grad_b_KOR: Tensor
    scaling_K11: Tensor

    @property
    def trials(self) -> slice:
        return slice(self.first, self.first + len(self.a_KRI))


class Keep(NamedTuple):
    """Dropout of K trials on an input of N rows: what is kept, one byte a number, and by how much it grows."""

    mask_KNI: Tensor
    factor_K11: Tensor


class LowRankUpdate(torch.autograd.Function):
    """result + scaling * (keep * x) A^T B^T on every trial's own rows; a trial without an update keeps its result.

    Gradients of A and B are added where the updates say, so that those of a trial lie in one row of memory and need no
    second place. The rounding is PEFT's (0.21): the product in the adapter's precision, then added to the result in
    that precision and rounded; beside a quantized matrix it is rounded first and then added.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_MNI: Tensor,
        result_MNO: Tensor,
        anchor: Tensor,
        updates: list[Update],
        keeps: list[Keep | None],
        round_first: bool,
    ) -> Tensor:
        """M trials with N rows each. `anchor` requires gradients, where x may not, and gets none.

        `keeps`: of each update its dropout, or None.
        """
        out_MNO = result_MNO.clone()
        hidden = add_updates(x_MNI, out_MNO, updates, keeps, round_first)
        ctx.updates = updates
        ctx.factors = [None if keep is None else keep.factor_K11 for keep in keeps]
        ctx.save_for_backward(x_MNI, *hidden, *(None if keep is None else keep.mask_KNI for keep in keeps))
        return out_MNO

    @staticmethod
    def backward(ctx: Any, grad_MNO: Tensor) -> tuple[Tensor | None, Tensor, None, None, None, None]:
        x_MNI, *saved = ctx.saved_tensors
        hidden, masks = saved[: len(ctx.updates)], saved[len(ctx.updates) :]
        keeps = [None if one is None else Keep(one, factor) for one, factor in zip(masks, ctx.factors, strict=True)]
        grad_x_MNI = torch.zeros_like(x_MNI) if ctx.needs_input_grad[0] else None
        for update, h_KNR, keep in zip(ctx.updates, hidden, keeps, strict=True):
            grad_KNO = grad_MNO[update.trials].to(h_KNR.dtype)
            x_KNI = dropped(x_MNI[update.trials].to(h_KNR.dtype), keep)
            update.grad_b_KOR.baddbmm_(grad_KNO.transpose(1, 2), h_KNR)
            grad_h_KNR = torch.bmm(grad_KNO, update.b_KOR).mul_(update.scaling_K11)
            update.grad_a_KRI.baddbmm_(grad_h_KNR.transpose(1, 2), x_KNI)
            if grad_x_MNI is not None:
                grad_x_MNI[update.trials] = dropped(torch.bmm(grad_h_KNR, update.a_KRI), keep)
        return grad_x_MNI, grad_MNO, None, None, None, None


def add_updates(
    x_MNI: Tensor, out_MNO: Tensor, updates: list[Update], keeps: list[Keep | None], round_first: bool
) -> list[Tensor]:
    """Adds every update's scaling * (keep * x) A^T B^T to its trials' rows of `out_MNO`, in place; the products with A,
    scaled, (K, N, R) of each."""
    hidden = []
    for update, keep in zip(updates, keeps, strict=True):
        x_KNI = dropped(x_MNI[update.trials].to(update.a_KRI.dtype), keep)
        h_KNR = torch.bmm(x_KNI, update.a_KRI.transpose(1, 2)).mul_(update.scaling_K11)
        add_product(out_MNO[update.trials], h_KNR, update.b_KOR.transpose(1, 2), round_first)
        hidden.append(h_KNR)
    return hidden


def dropped(x_KNI: Tensor, keep: Keep | None) -> Tensor:
    return x_KNI if keep is None else (x_KNI * keep.mask_KNI).mul_(keep.factor_K11)


def add_product(rows_KNO: Tensor, h_KNR: Tensor, b_KRO: Tensor, round_first: bool) -> None:
    """Adds h b to `rows_KNO` in place."""
    if rows_KNO.dtype == h_KNR.dtype:
        rows_KNO.baddbmm_(h_KNR, b_KRO)
    elif round_first:
        rows_KNO += torch.bmm(h_KNR, b_KRO).to(rows_KNO.dtype)
    else:
        rows_KNO.copy_(torch.baddbmm(rows_KNO.to(h_KNR.dtype), h_KNR, b_KRO))
