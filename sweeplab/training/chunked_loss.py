"""The loss of a language model with its gradients, computed for some of the target positions at a time.

Logits of all positions of a large vocabulary would need more memory than the rest of the step, and computing a chunk's
again in the backward would cost another product with the head. So each chunk's gradients are taken as soon as its
logits are there: a frozen head costs two products, of the targets only, and no logits wait for the backward.

B rows, T positions, N targets, C of them in a chunk, H hidden size, V vocabulary, K trials.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sweeplab.data.batches import find_places
from sweeplab.logits.states import Readout, count_positions_per_chunk, read_states, widen_logits
from sweeplab.multilora.packed import Excerpt, list_excerpts


class Targets(NamedTuple):
    """The positions of a batch that predict a target, row by row."""

    places_N: Tensor  # row x T + column
    rows_N: Tensor
    columns_N: Tensor
    ids_N: Tensor

    def sum_groups(self, losses_N: Tensor, shape_BT: torch.Size, num_groups: int) -> Tensor:
        """Sums over as many groups of B / `num_groups` rows each, always in the same order."""
        losses_BT = losses_N.new_zeros(shape_BT)
        losses_BT[self.rows_N, self.columns_N] = losses_N
        return losses_BT.view(num_groups, -1).sum(dim=1)


def find_targets(labels_BT: Tensor, places_N: Tensor | None = None) -> Targets:
    """A label of at least 0 is the target of the position before it.

    `places_N` is `find_places` of the labels; without it the host waits for a GPU until they are found.
    """
    places_N = find_places(labels_BT) if places_N is None else places_N
    num_columns = labels_BT.shape[1]
    return Targets(places_N, places_N // num_columns, places_N % num_columns, labels_BT.flatten()[places_N + 1])


class _Gradients:
    """What the chunks' gradients are added to; those of an adapter in a slot go to its excerpt."""

    def __init__(self, states_NH: Tensor, weights: list[nn.Parameter], excerpts: list[Excerpt]) -> None:
        self.states_NH = torch.empty_like(states_NH) if states_NH.requires_grad else None
        self.weights: list[Tensor | None] = [None] * len(weights)
        self.excerpts = excerpts
        self.leaves = [*weights, *[one.packed.anchor for one in excerpts[:1]]]

    @property
    def is_needed(self) -> bool:
        return self.states_NH is not None or bool(self.leaves)

    def add(self, rows: slice, states_CH: Tensor, logits_CV: Tensor, slopes_CV: Tensor) -> None:
        """Adds those of the chunk `rows`, whose gradients in its logits are `slopes_CV`."""
        states = [] if self.states_NH is None else [states_CH]
        found = list(torch.autograd.grad(logits_CV, [*states, *self.leaves], slopes_CV, allow_unused=True))
        if self.states_NH is not None:
            self.states_NH[rows] = found.pop(0)
        for place, known in enumerate(self.weights):
            self.weights[place] = found[place] if known is None else known.add_(found[place])


class _KnownGradients(torch.autograd.Function):
    """Losses whose gradients are known; the backward multiplies them by what arrives, which is done in place, once.

    Where weights of the model itself train there is one trial.
    """

    @staticmethod
    def forward(
        ctx: Any, losses_K: Tensor, trials_N: Tensor, gradients: _Gradients, states_NH: Tensor, *leaves: Tensor
    ) -> Tensor:
        ctx.trials_N, ctx.gradients = trials_N, gradients
        return losses_K.clone()

    @staticmethod
    def backward(ctx: Any, grad_K: Tensor) -> tuple[Tensor | None, ...]:
        gradients: _Gradients = ctx.gradients
        ctx.gradients = None
        states_NH = gradients.states_NH
        if states_NH is not None:
            states_NH *= grad_K[ctx.trials_N, None].to(states_NH.dtype)
        for excerpt in gradients.excerpts:
            excerpt.add_gradients(grad_K[excerpt.number])
        weights = [None if one is None else one.mul_(grad_K[0]) for one in gradients.weights]
        return None, None, None, states_NH, *weights, *[None] * (len(gradients.leaves) - len(weights))


def _split_chunks(counts: Sequence[int], gradients: _Gradients, size: int) -> Iterator[tuple[slice, Any]]:
    """Chunks of at most `size` targets, each with the context in which the head has these targets' adapters.

    The targets of several trials share a chunk only where the head is the same for all. Where weights train, no targets
    are a chunk too: its gradients are zeros, as several devices need them, which add up the gradients that there are.
    """
    excerpts = gradients.excerpts
    if not excerpts:
        counts = [max(sum(counts), 1 if gradients.leaves else 0)]
    first = 0
    for number, count in enumerate(counts):
        for start in range(0, count, size):
            own = slice(start, min(start + size, count))
            attached = excerpts[number].attached(own) if excerpts else nullcontext()
            yield slice(first + own.start, first + own.stop), attached
        first += count


def draw_labels(logits_NV: Tensor, generator: torch.Generator) -> Tensor:
    """A label of each of N positions, drawn from softmax(logits)."""
    return torch.multinomial(logits_NV.detach().softmax(dim=-1), 1, generator=generator)[:, 0]


def _take_chunk(
    readout: Readout, states_CH: Tensor, ids_C: Tensor, divisors_C: Tensor, generator: torch.Generator | None
) -> tuple[Tensor, ...]:
    """-log p of every target, (C,), the logits, and the gradient of -log p / divisor in them, (p - 1[target]) / d.

    With a generator the targets are `draw_labels` of the logits in the place of `ids_C`.
    """
    logits_CV = widen_logits(readout.compute_logits(states_CH))
    if generator is not None:
        ids_C = draw_labels(logits_CV, generator)
    slopes_CV = F.log_softmax(logits_CV.detach(), dim=-1)
    losses_C = -slopes_CV.gather(1, ids_C[:, None])[:, 0]
    if logits_CV.requires_grad:
        slopes_CV.exp_()
        slopes_CV[torch.arange(len(ids_C), device=ids_C.device), ids_C] -= 1
        slopes_CV.div_(divisors_C[:, None])
    return losses_C, logits_CV, slopes_CV


def stack_numbers(like: Tensor, numbers: Sequence[float]) -> Tensor:
    """The numbers as a tensor of the device and precision of `like`, for which the host does not wait for a GPU."""
    return torch.stack([like.new_full((), number) for number in numbers])


def compute_mean_losses(
    model: nn.Module,
    inputs: dict[str, Tensor],
    labels_BT: Tensor,
    divisors: Sequence[float],
    places_N: Tensor | None = None,
    counts: Sequence[int] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor | None:
    """For each trial the sum of -log p over its targets in nats, divided by its divisor; shape (K,).

    Every trial has B / K rows; with gradients these are the trials that the adapters on the base have selected.
    `places_N` are those of `find_targets`, and `counts` how many of them each trial has; without them the host waits
    for a GPU. With a `generator` targets are drawn from the model's own distribution. None for a model whose logits are
    not made of its hidden states position by position.
    """
    readout = read_states(model, inputs)
    if readout is None:
        return None
    targets, num_trials = find_targets(labels_BT, places_N), len(divisors)
    states_NH = readout.states_BTH[targets.rows_N, targets.columns_N]
    trials_N = targets.rows_N // (len(labels_BT) // num_trials)
    gradients = _Gradients(states_NH, [], [])
    if not torch.is_grad_enabled() or num_trials == 1:  # all in one part
        counts = [len(states_NH)]
    elif counts is None:
        counts = trials_N.bincount(minlength=num_trials).tolist()
    if torch.is_grad_enabled():
        excerpts = list_excerpts(readout.head, targets.places_N, counts, labels_BT.shape)
        gradients = _Gradients(states_NH, readout.list_trained_weights(), excerpts)
    losses_N = widen_logits(states_NH[:0]).new_empty(len(states_NH))
    divisors_K = stack_numbers(losses_N, divisors)
    size = count_positions_per_chunk(readout.vocab_size, states_NH.device.type)
    for rows, attached in _split_chunks(counts, gradients, size):
        states_CH = states_NH[rows].detach().requires_grad_(gradients.states_NH is not None)
        with attached:
            losses_N[rows], logits_CV, slopes_CV = _take_chunk(
                readout, states_CH, targets.ids_N[rows], divisors_K[trials_N[rows]], generator
            )
            if gradients.is_needed:
                gradients.add(rows, states_CH, logits_CV, slopes_CV)
        del logits_CV, slopes_CV  # before the next chunk's
    losses_K = targets.sum_groups(losses_N, labels_BT.shape, num_trials) / divisors_K
    if not gradients.is_needed:
        return losses_K
    known: Tensor = _KnownGradients.apply(losses_K, trials_N, gradients, states_NH, *gradients.leaves)  # type: ignore[no-untyped-call]
    return known
