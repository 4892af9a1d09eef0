"""Images and their classes as rows and batches: an image is one target, and as many tokens as the model makes of it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sweeplab.builtin.digits import LARGEST_GRAY, Digit, ImageSize, Pixels, split_digits
from sweeplab.config.data import DataConfig
from sweeplab.data.sources import fingerprint_examples, limit_examples
from sweeplab.data.tokens import IGNORED


class ImageRow(NamedTuple):
    """One image in its own grays, and the size at which the model reads it."""

    pixels: Pixels
    label: int  # or IGNORED, in a row that only fills a batch
    size: ImageSize

    @property
    def num_tokens(self) -> int:
        return self.size.num_tokens

    @property
    def num_targets(self) -> int:
        return int(self.label != IGNORED)


class ImageBatch(NamedTuple):
    """One micro-batch: B images of C channels, H pixels high and W wide."""

    pixels_BCHW: Tensor
    labels_B: Tensor
    num_tokens: int
    num_window_targets: int  # images of the whole accumulation window


class ImageSplits(NamedTuple):
    """Disjoint images to learn from and to measure on, and a fingerprint of both."""

    train: list[ImageRow]
    heldout: list[ImageRow]
    fingerprint: str


def make_image_rows(images: Sequence[Digit], size: ImageSize) -> list[ImageRow]:
    return [ImageRow(image.pixels, image.label, size) for image in images]


def load_images(config: DataConfig, size: ImageSize) -> ImageSplits:
    """The images that `config` names, `num_examples` and `fraction` as for text."""
    train, heldout = split_digits(str(config.target))
    train = limit_examples(train, config)
    return ImageSplits(
        make_image_rows(train, size), make_image_rows(heldout, size), fingerprint_examples((train, heldout))
    )


def load_heldout_images(orientation: str, size: ImageSize) -> list[ImageRow]:
    """The held-out images, turned as `orientation` says."""
    return make_image_rows(split_digits(orientation)[1], size)


def collate_images(rows: Sequence[ImageRow], num_window_targets: int) -> ImageBatch:
    """Grays from -1 to 1, bilinearly enlarged to the model's size, the same in all channels.

    (x - 0.5) / 0.5 with x from 0 to 1 is what the ViTs of Dosovitskiy et al. 2021 (arXiv 2010.11929) were trained on.
    """
    size = rows[0].size
    pixels_B1HW = torch.tensor([row.pixels for row in rows], dtype=torch.float32)[:, None] / (LARGEST_GRAY / 2) - 1
    if pixels_B1HW.shape[-1] != size.side:
        pixels_B1HW = F.interpolate(pixels_B1HW, size=(size.side, size.side), mode="bilinear")
    labels_B = torch.tensor([row.label for row in rows])
    num_tokens = sum(row.num_tokens for row in rows)
    return ImageBatch(pixels_B1HW.repeat(1, size.num_channels, 1, 1), labels_B, num_tokens, num_window_targets)
