"""The low-rank updates of several trials to the output of one frozen matrix, as one autograd function.

Dimensions in names: M trials in the batch, K of them in one update, N rows per trial, R rank, I in_features,
O out_features.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sweeplab.models.recomputation import keep_input
from sweeplab.multilora.inputs import SharedInput, add_rounded


class Update(NamedTuple):
    """K adapters of one frozen matrix, for the trials `first` to `first + K - 1` of a batch.

    Gradients are None where nothing is trained. `scaling` is what `hold_scaling` makes of the adapters' numbers.
    """

    first: int
    a_KRI: Tensor
    b_KOR: Tensor
    grad_a_KRI: Tensor | None
    grad_b_KOR: Tensor | None
    scaling: float | Tensor
    keep_factor_K11: Tensor  # on what dropout keeps

    @property
    def trials(self) -> tuple[int, int]:
        """The first of them, and the first one after them."""
        return self.first, self.first + len(self.a_KRI)

    def split(self) -> "list[Update]":
        """One update for each adapter, of the same memory."""
        places = [slice(place, place + 1) for place in range(len(self.a_KRI))]
        parts: list[list[Any]] = [
            [part[one] if isinstance(part, Tensor) else part for part in self[1:]] for one in places
        ]
        return [Update(self.first + place, *part) for place, part in enumerate(parts)]


def hold_scaling(scalings: Sequence[float], scaling_K11: Tensor) -> float | Tensor:
    """One number where all have the same power of two, which a product takes in without rounding; else `scaling_K11`,
    the same numbers on the device, by which it is multiplied afterwards."""
    (first, *_) = scalings
    return first if set(scalings) == {first} and math.frexp(first)[0] == 0.5 else scaling_K11


class DropoutMask(NamedTuple):
    """Dropout of K trials: which entries of the input are kept (bool, one byte each), and the factor on those."""

    mask_KNI: Tensor
    factor_K11: Tensor


class LowRankUpdate(torch.autograd.Function):
    """result + scaling * dropout(x) A^T B^T, each trial with its own A and B; without an update the result stays.

    The backward adds the gradients of A and B to `grad_a_KRI` and `grad_b_KOR` of the update, in place, so all
    gradients of a trial lie in one row of memory and are never copied; that of x goes to `shared`, of which x is a
    branch. The product is computed in the adapter's precision, added to the result in that precision, then rounded, as
    PEFT 0.21 does beside a plain matrix. Beside a quantized one PEFT rounds before it adds, too: that is one rounding
    and one copy more, and no nearer to anything (`tests/multilora/test_lowrank.py`).
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_MNI: Tensor,
        result_MNO: Tensor,
        anchor: Tensor,
        shared: SharedInput,
        updates: list[Update],
        dropouts: list[DropoutMask | None],
    ) -> Tensor:
        """Shape (M, N, O). `dropouts` has one entry per update, None for no dropout.

        `anchor` is an empty tensor that requires gradients: without it autograd would skip the backward wherever x
        requires none.
        """
        if len(updates) == 1 and len(updates[0].a_KRI) == len(x_MNI):  # of all trials: none keeps its result
            (update,), (dropout,) = updates, dropouts
            hidden = [_compute_hidden(x_MNI, shared, update, dropout)]
            out_MNO = _add_to_all(result_MNO, hidden[0], update.b_KOR.transpose(1, 2))
        else:
            out_MNO = result_MNO.clone()
            hidden = add_updates(x_MNI, out_MNO, shared, updates, dropouts)
        shared.num_readers += len(updates)
        ctx.updates, ctx.shared = updates, shared
        ctx.factors = [None if dropout is None else dropout.factor_K11 for dropout in dropouts]
        ctx.restore, kept = keep_input(x_MNI)
        masks = [None if dropout is None else dropout.mask_KNI for dropout in dropouts]
        ctx.save_for_backward(*hidden, *masks, *kept)
        return out_MNO

    @staticmethod
    def backward(ctx: Any, grad_MNO: Tensor) -> tuple[None, Tensor, None, None, None, None]:
        shared: SharedInput = ctx.shared
        saved, count = ctx.saved_tensors, len(ctx.updates)  # with checkpointing the forward runs again here
        shared.forget()
        hidden, masks, x_MNI = saved[:count], saved[count : 2 * count], ctx.restore(saved[2 * count :])
        dropouts = [
            None if one is None else DropoutMask(one, factor) for one, factor in zip(masks, ctx.factors, strict=True)
        ]
        for update, h_KNR, dropout in zip(ctx.updates, hidden, dropouts, strict=True):
            grad_KNO = grad_MNO[slice(*update.trials)].to(h_KNR.dtype)
            assert update.grad_a_KRI is not None
            assert update.grad_b_KOR is not None
            update.grad_b_KOR.baddbmm_(grad_KNO.transpose(1, 2), h_KNR)
            grad_h_KNR = _multiply(grad_KNO, update.b_KOR, update.scaling)
            del grad_KNO
            x_KNI = _apply_dropout(shared.widen(x_MNI, update.trials, h_KNR.dtype), dropout)
            update.grad_a_KRI.baddbmm_(grad_h_KNR.transpose(1, 2), x_KNI)
            del x_KNI
            shared.end_reading()
            if ctx.needs_input_grad[0] and dropout is None:
                shared.add_product(update.trials, grad_h_KNR, update.a_KRI)
            elif ctx.needs_input_grad[0]:
                grad_KNI = _apply_dropout(torch.bmm(grad_h_KNR, update.a_KRI), dropout)
                shared.add_gradient(update.trials, grad_KNI)
        return None, grad_MNO, None, None, None, None


def add_updates(
    x_MNI: Tensor,
    out_MNO: Tensor,
    shared: SharedInput,
    updates: list[Update],
    dropouts: list[DropoutMask | None],
) -> list[Tensor]:
    """Adds scaling * dropout(x) A^T B^T to `out_MNO` in place, for every update.

    Returns scaling * dropout(x) A^T of each update, shape (K, N, R), which the backward needs.
    """
    hidden = []
    for update, dropout in zip(updates, dropouts, strict=True):
        h_KNR = _compute_hidden(x_MNI, shared, update, dropout)
        _add_product(out_MNO[slice(*update.trials)], h_KNR, update.b_KOR.transpose(1, 2))
        hidden.append(h_KNR)
    return hidden


def _multiply(left_KNI: Tensor, right_KIR: Tensor, scaling: float | Tensor) -> Tensor:
    """scaling * left right."""
    if isinstance(scaling, Tensor):
        return torch.bmm(left_KNI, right_KIR).mul_(scaling)
    made_KNR = left_KNI.new_empty(*left_KNI.shape[:2], right_KIR.shape[2])
    return made_KNR.baddbmm_(left_KNI, right_KIR, beta=0, alpha=scaling)  # beta=0: what is there is not read


def _compute_hidden(x_MNI: Tensor, shared: SharedInput, update: Update, dropout: DropoutMask | None) -> Tensor:
    """scaling * dropout(x) A^T of the update's trials, shape (K, N, R)."""
    x_KNI = _apply_dropout(shared.widen(x_MNI, update.trials, update.a_KRI.dtype), dropout)
    return _multiply(x_KNI, update.a_KRI.transpose(1, 2), update.scaling)


def _apply_dropout(x_KNI: Tensor, dropout: DropoutMask | None) -> Tensor:
    return x_KNI if dropout is None else (x_KNI * dropout.mask_KNI).mul_(dropout.factor_K11)


def _add_to_all(rows_KNO: Tensor, h_KNR: Tensor, b_KRO: Tensor) -> Tensor:
    """A tensor of its own with what `_add_product` makes of `rows_KNO`, rounded alike."""
    if rows_KNO.dtype == h_KNR.dtype:
        return rows_KNO.clone().baddbmm_(h_KNR, b_KRO)
    return add_rounded(rows_KNO, torch.bmm(h_KNR, b_KRO))


def _add_product(rows_KNO: Tensor, h_KNR: Tensor, b_KRO: Tensor) -> None:
    """Adds h b to `rows_KNO` in place."""
    if rows_KNO.dtype == h_KNR.dtype:
        rows_KNO.baddbmm_(h_KNR, b_KRO)
    else:
        rows_KNO += torch.bmm(h_KNR, b_KRO)
