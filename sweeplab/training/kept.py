"""The weights of the least held-out loss, kept while the training goes on."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sweeplab.evaluation.heldout import HeldoutLosses
from sweeplab.records.record import HeldoutPoint


class KeptWeights(NamedTuple):
    """The trained weights after `step` optimizer steps, on the CPU, as evaluation has them, and what was measured with
    them."""

    step: int
    loss: float  # the mean of `losses`; with several devices the first one's, by which all decide
    losses: HeldoutLosses  # in the order of the data
    weights: list[Tensor]  # in the order of the trial's parameters

    def restore(self, parameters: Sequence[Tensor]) -> None:
        """Gives `parameters` these values."""
        with torch.no_grad():
            for weight, kept in zip(parameters, self.weights, strict=True):
                weight.copy_(kept)


def choose_kept(
    kept: KeptWeights | None, step: int, loss: float, losses: HeldoutLosses, parameters: Sequence[Tensor]
) -> KeptWeights:
    """A copy of the present `parameters` where `loss` is below that of `kept`; the earlier of two equal ones stays."""
    if kept is not None and loss >= kept.loss:
        return kept
    return KeptWeights(step, loss, losses, [weight.detach().to("cpu", copy=True) for weight in parameters])


def find_least(points: Sequence[HeldoutPoint]) -> int:
    """The index of the least held-out loss, of equal ones the first."""
    return min(range(len(points)), key=lambda index: points[index].loss)
