"""Measures held-out batches without lm-eval: the loss, and the accuracy of an image classifier."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sweeplab.evaluation.results import Evaluation
from sweeplab.records.record import Score


@torch.no_grad()
def measure_heldout_loss(
    model: nn.Module, batches: Iterable[Any], loss_sum: Callable[[nn.Module, Any], Tensor], device: torch.device
) -> float:
    """Mean -log p in nats per target token over all `batches`, in evaluation mode; the mode is restored.

    `loss_sum(model, batch)` is the function that training uses, so that both losses mean the same.
    """
    was_training = model.training
    model.eval()
    total, num_targets = 0.0, 0
    for batch in batches:
        moved = type(batch)(*(part.to(device) if isinstance(part, Tensor) else part for part in batch))
        total += loss_sum(model, moved).item()
        num_targets += batch.num_window_targets
    model.train(was_training)
    return total / num_targets


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


def score_images(model: nn.Module, tasks: Mapping[str, Iterable[Any]], device: torch.device) -> Evaluation:
    """Accuracies of `model`, with its adapter, on each task's batches of images; in evaluation mode."""
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
                "item": index,
                "filter": "none",
                "target": str(label),
                "responses": [str(guess)],
                "metrics": {"accuracy": float(guess == label)},
            }
            for index, (guess, label) in enumerate(zip(predictions, labels, strict=True))
        ]
    model.train(was_training)
    return Evaluation(scores, items)
