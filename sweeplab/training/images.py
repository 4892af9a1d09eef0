"""What training reads of images: an image is one target."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class ImageBatch(Protocol):
    """What training reads of a micro-batch of B images; `data.images.ImageBatch` is one."""

    @property
    def pixels_BCHW(self) -> Tensor: ...
    @property
    def labels_B(self) -> Tensor: ...


def class_logits(model: nn.Module, batch: ImageBatch) -> tuple[Tensor, Tensor]:
    """Logits of the batch's N images with a class over V classes, in 32 bits or, of a model in 64, in 64; and the N
    classes. An image without one only fills the batch."""
    counted_B = batch.labels_B >= 0
    logits_NV = model(pixel_values=batch.pixels_BCHW).logits[counted_B]
    return logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32)), batch.labels_B[counted_B]
