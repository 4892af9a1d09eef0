"""What adapted matrices that read one input share: its copy in the adapters' precision, and its gradient.

Dimensions in names as in `lowrank.py`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

_Trials = tuple[int, int]  # the first of some trials in a batch, and the first one after them


class SharedInput:
    """An input that one or several adapted matrices read, as query, key and value do.

    It is cast once for all of them, in the forward and again in the backward. What their updates add to its gradient is
    summed in the adapters' precision, and rounded once, where it meets the gradient of the base.

    Args:
        num_trials: in the batch, M.
        forget: called when a backward begins, so that nothing of the forward waits longer.
    """

    def __init__(self, num_trials: int, forget: Callable[[], None] = lambda: None) -> None:
        self.num_trials = num_trials
        self.forget = forget
        self.num_readers = 0  # updates whose backward is still to come
        self.wide: dict[_Trials, Tensor] = {}  # rows in the adapters' precision
        self.grads: dict[_Trials, Tensor] = {}

    def branch(self, x: Tensor) -> Tensor:
        """The input for those matrices; its gradient comes back through `complete`."""
        return _Branch.apply(x, self) if x.requires_grad else x  # type: ignore[no-untyped-call]

    def widen(self, x_MNI: Tensor, trials: _Trials, dtype: torch.dtype) -> Tensor:
        """The rows of these trials in `dtype`, shape (K, N, I); not to be changed."""
        if x_MNI.dtype is dtype:
            return x_MNI[slice(*trials)]
        if trials not in self.wide:
            self.wide[trials] = x_MNI[slice(*trials)].to(dtype)
        return self.wide[trials]

    def end_reading(self) -> None:
        """An update needs the input no more."""
        self.num_readers -= 1
        if self.num_readers <= 0:
            self.wide = {}

    def add_product(self, trials: _Trials, left_KNR: Tensor, right_KRI: Tensor) -> None:
        """Adds left right to the gradient of these trials' rows."""
        if trials in self.grads:
            self.grads[trials].baddbmm_(left_KNR, right_KRI)
        else:
            self.grads[trials] = torch.bmm(left_KNR, right_KRI)

    def add_gradient(self, trials: _Trials, grad_KNI: Tensor) -> None:
        """Adds to the gradient of these trials' rows; `grad_KNI` may be changed later."""
        if trials in self.grads:
            self.grads[trials].add_(grad_KNI)
        else:
            self.grads[trials] = grad_KNI

    def complete(self, grad: Tensor) -> Tensor:
        """The whole gradient: `grad`, which the base gives to the input, and that of all updates."""
        grads, self.grads, self.wide = self.grads, {}, {}
        if not grads:
            return grad
        grad_MNI = grad.reshape(self.num_trials, -1, grad.shape[-1])
        if list(grads) == [(0, self.num_trials)]:
            return add_rounded(grad_MNI, grads.popitem()[1]).view(grad.shape)
        grad_MNI = grad_MNI.clone()
        for trials, own_KNI in grads.items():
            grad_MNI[slice(*trials)] += own_KNI
        return grad_MNI.view(grad.shape)


def add_rounded(left: Tensor, right: Tensor) -> Tensor:
    """left + right in the precision of `right`, rounded once to that of `left`; where both are one, in place of
    `right`."""
    if left.dtype is right.dtype:
        return right.add_(left)
    return torch.add(left, right, out=torch.empty_like(left))  # one kernel, without a copy in the other precision


class _Present(NamedTuple):
    source: Tensor
    version: int | None  # of its values; inference mode counts none
    branch: Tensor
    shared: SharedInput


class InputBranches:
    """Gives matrices that read one input, one after another, one branch of it."""

    def __init__(self) -> None:
        self.present: _Present | None = None

    def branch(self, x: Tensor, num_trials: int) -> Tensor:
        """What a matrix reads in the place of `x`, which has rows of so many trials."""
        version = None if x.is_inference() else x._version
        if self.present is None or self.present.source is not x or self.present.version != version:
            self.forget()  # before another copy is made
            shared = SharedInput(num_trials, self.forget)
            self.present = _Present(x, version, shared.branch(x), shared)
        return self.present.branch

    def find(self, x: Tensor, num_trials: int) -> tuple[Tensor, SharedInput]:
        """The branch that a matrix has read; one of its own where another hook gave it something else."""
        if self.present is None or self.present.branch is not x:
            self.branch(x, num_trials)
        assert self.present is not None
        return self.present.branch, self.present.shared

    def forget(self) -> None:
        """Drops the last input and its copy."""
        if self.present is not None:
            self.present.shared.wide = {}
            self.present = None


class _Branch(torch.autograd.Function):
    """The input as it is; backward runs once all that the adapted matrices give to its gradient is there."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shared: SharedInput) -> Tensor:
        ctx.shared = shared
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return ctx.shared.complete(grads[0]), None
