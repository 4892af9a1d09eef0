"""What training reads of images: an image is one target."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class ImageBatch(Protocol):
    """A micro-batch of B images; `data.images.ImageBatch` is one."""

    @property
    def pixels_BCHW(self) -> Tensor: ...
    @property
    def labels_B(self) -> Tensor: ...
    @property
    def num_tokens(self) -> int: ...
    @property
    def num_window_targets(self) -> int: ...


def class_logits(model: nn.Module, batch: ImageBatch) -> tuple[Tensor, Tensor]:
    """Logits of the batch's N images over K classes, in 32 bits or, for a model in 64, in 64; and the N classes."""
    logits_NK = model(pixel_values=batch.pixels_BCHW).logits
    return logits_NK.to(torch.promote_types(logits_NK.dtype, torch.float32)), batch.labels_B
