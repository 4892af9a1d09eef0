"""The held-out loss."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def heldout_loss(
    model: nn.Module, batches: Iterable[Any], loss_sum: Callable[[nn.Module, Any], Tensor], device: torch.device
) -> float:
    """Mean -log p in nats per target token over all `batches`, in evaluation mode; the mode is restored.

    `loss_sum(model, batch)` is the training's own sum over a batch, so that both losses mean the same.
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
