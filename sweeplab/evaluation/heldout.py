"""Measures held-out batches without lm-eval: the losses, and the accuracy of an image classifier."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sweeplab.evaluation.results import Evaluation
from sweeplab.records.record import Score


class HeldoutLosses(NamedTuple):
    """The held-out loss by example: sums of -log p in nats over the targets of each, and how many targets these are."""

    sums: list[float]
    counts: list[int]

    @property
    def mean(self) -> float:
        """Nats per target over all examples. The sum is exact, so the order of the examples does not change it."""
        return math.fsum(self.sums) / sum(self.counts)

    def restored(self, order: Sequence[int]) -> "HeldoutLosses":
        """The examples in their own order; `order` has the index of each one, as they stand here."""
        places = sorted(range(len(order)), key=lambda place: order[place])
        return HeldoutLosses([self.sums[place] for place in places], [self.counts[place] for place in places])


@contextmanager
def in_evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Within it nothing is dropped out; afterwards, also after an error, the mode is as it was."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@torch.no_grad()
def measure_heldout_losses(
    model: nn.Module,
    batches: Iterable[Any],
    sum_row_losses: Callable[[nn.Module, Any], tuple[Tensor, Tensor]],
    device: torch.device,
) -> HeldoutLosses:
    """The losses of all rows of `batches`, in their order, in evaluation mode; the mode is restored.

    `sum_row_losses(model, batch)` computes them as training does, so that both losses mean the same.
    """
    sums: list[Tensor] = []
    counts: list[Tensor] = []
    with in_evaluation_mode(model):
        for batch in batches:
            moved = [part.to(device, non_blocking=True) if isinstance(part, Tensor) else part for part in batch]
            sums_B, counts_B = sum_row_losses(model, type(batch)(*moved))
            sums.append(sums_B)  # on the device: a GPU is not waited for before the last batch
            counts.append(counts_B)
    return HeldoutLosses(torch.cat(sums).tolist(), torch.cat(counts).tolist())


def _score_hits(hits: list[bool]) -> Score:
    """The share p of hits with its standard error sqrt(p (1 - p) / (n - 1)), as lm-eval computes it."""
    num_items = len(hits)
    share = sum(hits) / num_items
    stderr = math.sqrt(share * (1 - share) / (num_items - 1)) if num_items > 1 else None
    return Score(share, stderr, num_items)


@torch.no_grad()
def _classify_images(model: nn.Module, batches: Iterable[Any], device: torch.device) -> tuple[list[int], list[int]]:
    """The most likely class of every image, and its label."""
    predictions: list[Tensor] = []
    labels: list[Tensor] = []
    for batch in batches:
        predictions.append(model(pixel_values=batch.pixels_BCHW.to(device)).logits.argmax(-1).cpu())
        labels.append(batch.labels_B)
    return torch.cat(predictions).tolist(), torch.cat(labels).tolist()


def score_images(
    model: nn.Module, tasks: Mapping[str, Iterable[Any]], numbers: Mapping[str, Sequence[int]], device: torch.device
) -> Evaluation:
    """Accuracies of `model`, with its adapter, on each task's batches of images; in evaluation mode.

    `numbers` are those of the images among all of their task.
    """
    scores: dict[str, dict[str, Score]] = {}
    items: list[dict[str, Any]] = []
    was_training = model.training
    model.eval()
    for task, batches in tasks.items():
        predictions, labels = _classify_images(model, batches, device)
        hits = [guess == label for guess, label in zip(predictions, labels, strict=True)]
        scores[task] = {"accuracy": _score_hits(hits)}
        items += [
            {
                "task": task,
                "item": number,
                "filter": "none",
                "target": str(label),
                "responses": [str(guess)],
                "metrics": {"accuracy": float(guess == label)},
            }
            for number, guess, label in zip(numbers[task], predictions, labels, strict=True)
        ]
    model.train(was_training)
    return Evaluation(scores, items)
