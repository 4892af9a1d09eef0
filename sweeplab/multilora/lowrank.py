"""The low-rank updates of several trials to the output of one frozen matrix, as one autograd function.

Dimensions in names: M trials in the batch, K of them in one update, N rows per trial, R rank, I in_features,
O out_features.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from sweeplab.models.recomputation import keep_input


class Update(NamedTuple):
    """K adapters of one frozen matrix, for the trials `first` to `first + K - 1` of a batch.

    Gradients are None where nothing is trained.
    """

    first: int
    a_KRI: Tensor
    b_KOR: Tensor
    grad_a_KRI: Tensor | None
    grad_b_KOR: Tensor | None
    scaling_K11: Tensor
    keep_factor_K11: Tensor  # on what dropout keeps

    @property
    def trials(self) -> slice:
        return slice(self.first, self.first + len(self.a_KRI))

    def split(self) -> "list[Update]":
        """One update for each adapter, of the same memory."""
        places = [slice(place, place + 1) for place in range(len(self.a_KRI))]
        parts: list[list[Any]] = [[None if part is None else part[one] for part in self[1:]] for one in places]
        return [Update(self.first + place, *part) for place, part in enumerate(parts)]


class DropoutMask(NamedTuple):
    """Dropout of K trials: which entries of the input are kept (bool, one byte each), and the factor on those."""

    mask_KNI: Tensor
    factor_K11: Tensor


class LowRankUpdate(torch.autograd.Function):
    """result + scaling * dropout(x) A^T B^T, each trial with its own A and B; without an update the result stays.

    The backward adds the gradients of A and B to `grad_a_KRI` and `grad_b_KOR` of the update, in place, so all
    gradients of a trial lie in one row of memory and are never copied. Rounding follows PEFT 0.21: the product is
    computed in the adapter's precision, added to the result in that precision, then rounded. With `round_first`, as
    PEFT does beside a quantized matrix, the product is rounded before it is added.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_MNI: Tensor,
        result_MNO: Tensor,
        anchor: Tensor,
        updates: list[Update],
        dropouts: list[DropoutMask | None],
        round_first: bool,
    ) -> Tensor:
        """Shape (M, N, O). `dropouts` has one entry per update, None for no dropout.

        `anchor` is an empty tensor that requires gradients: without it autograd would skip the backward wherever x
        requires none.
        """
        if _is_of_all(updates, x_MNI):
            hidden = [_compute_hidden(x_MNI, updates[0], dropouts[0])]
            out_MNO = _add_to_all(result_MNO, hidden[0], updates[0].b_KOR.transpose(1, 2), round_first)
        else:
            out_MNO = result_MNO.clone()
            hidden = add_updates(x_MNI, out_MNO, updates, dropouts, round_first)
        ctx.updates = updates
        ctx.factors = [None if dropout is None else dropout.factor_K11 for dropout in dropouts]
        ctx.restore, kept = keep_input(x_MNI)
        masks = [None if dropout is None else dropout.mask_KNI for dropout in dropouts]
        ctx.save_for_backward(*hidden, *masks, *kept)
        return out_MNO

    @staticmethod
    def backward(ctx: Any, grad_MNO: Tensor) -> tuple[Tensor | None, Tensor, None, None, None, None]:
        saved, count = ctx.saved_tensors, len(ctx.updates)
        hidden, masks, x_MNI = saved[:count], saved[count : 2 * count], ctx.restore(saved[2 * count :])
        dropouts = [
            None if one is None else DropoutMask(one, factor) for one, factor in zip(masks, ctx.factors, strict=True)
        ]
        slopes = []
        for update, h_KNR, dropout in zip(ctx.updates, hidden, dropouts, strict=True):
            grad_KNO = grad_MNO[update.trials].to(h_KNR.dtype)
            assert update.grad_a_KRI is not None
            assert update.grad_b_KOR is not None
            update.grad_b_KOR.baddbmm_(grad_KNO.transpose(1, 2), h_KNR)
            slopes.append(torch.bmm(grad_KNO, update.b_KOR).mul_(update.scaling_K11))
            del grad_KNO
            x_KNI = _apply_dropout(x_MNI[update.trials].to(h_KNR.dtype), dropout)
            update.grad_a_KRI.baddbmm_(slopes[-1].transpose(1, 2), x_KNI)
            del x_KNI
        whole, dtype = _is_of_all(ctx.updates, x_MNI), x_MNI.dtype
        grad_x_MNI = torch.zeros_like(x_MNI) if ctx.needs_input_grad[0] and not whole else None
        del x_MNI  # before as large a gradient comes
        for update, grad_h_KNR, dropout in zip(ctx.updates, slopes, dropouts, strict=True):
            if whole and ctx.needs_input_grad[0]:
                grad_x_MNI = _apply_dropout(torch.bmm(grad_h_KNR, update.a_KRI), dropout).to(dtype)
            elif grad_x_MNI is not None:
                grad_x_MNI[update.trials] = _apply_dropout(torch.bmm(grad_h_KNR, update.a_KRI), dropout)
        return grad_x_MNI, grad_MNO, None, None, None, None


def add_updates(
    x_MNI: Tensor, out_MNO: Tensor, updates: list[Update], dropouts: list[DropoutMask | None], round_first: bool
) -> list[Tensor]:
    """Adds scaling * dropout(x) A^T B^T to `out_MNO` in place, for every update.

    Returns scaling * dropout(x) A^T of each update, shape (K, N, R), which the backward needs.
    """
    hidden = []
    for update, dropout in zip(updates, dropouts, strict=True):
        h_KNR = _compute_hidden(x_MNI, update, dropout)
        _add_product(out_MNO[update.trials], h_KNR, update.b_KOR.transpose(1, 2), round_first)
        hidden.append(h_KNR)
    return hidden


def _is_of_all(updates: list[Update], x_MNI: Tensor) -> bool:
    """Whether one update is of all trials, so that its products need no copies for what others leave as it is."""
    return len(updates) == 1 and len(updates[0].a_KRI) == len(x_MNI)


def _add_to_all(rows_KNO: Tensor, h_KNR: Tensor, b_KRO: Tensor, round_first: bool) -> Tensor:
    """A tensor of its own with what `_add_product` makes of `rows_KNO`, rounded alike."""
    if rows_KNO.dtype == h_KNR.dtype:
        return rows_KNO.clone().baddbmm_(h_KNR, b_KRO)
    if round_first:
        return rows_KNO + torch.bmm(h_KNR, b_KRO).to(rows_KNO.dtype)
    return rows_KNO.to(h_KNR.dtype).baddbmm_(h_KNR, b_KRO).to(rows_KNO.dtype)


def _compute_hidden(x_MNI: Tensor, update: Update, dropout: DropoutMask | None) -> Tensor:
    """scaling * dropout(x) A^T of the update's trials, shape (K, N, R)."""
    x_KNI = _apply_dropout(x_MNI[update.trials].to(update.a_KRI.dtype), dropout)
    return torch.bmm(x_KNI, update.a_KRI.transpose(1, 2)).mul_(update.scaling_K11)


def _apply_dropout(x_KNI: Tensor, dropout: DropoutMask | None) -> Tensor:
    return x_KNI if dropout is None else (x_KNI * dropout.mask_KNI).mul_(dropout.factor_K11)


def _add_product(rows_KNO: Tensor, h_KNR: Tensor, b_KRO: Tensor, round_first: bool) -> None:
    """Adds h b to `rows_KNO` in place; for `round_first` see `LowRankUpdate`."""
    if rows_KNO.dtype == h_KNR.dtype:
        rows_KNO.baddbmm_(h_KNR, b_KRO)
    elif round_first:
        rows_KNO += torch.bmm(h_KNR, b_KRO).to(rows_KNO.dtype)
    else:
        rows_KNO.copy_(torch.baddbmm(rows_KNO.to(h_KNR.dtype), h_KNR, b_KRO))
