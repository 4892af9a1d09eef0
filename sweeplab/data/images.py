"""Images and their classes as rows and batches. An image is one target; its tokens are the patches of the model."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sweeplab.builtin.digits import LARGEST_GRAY, Digit, ImageSize, Pixels, split_digits
from sweeplab.config.data import DigitsData
from sweeplab.data.sources import fingerprint_examples, limit_examples
from sweeplab.data.tokens import IGNORED


class ImageRow(NamedTuple):
    """One image in its original gray values, and the size at which the model reads it."""

    pixels: Pixels
    label: int  # the class; IGNORED in a row that only fills up a batch
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


class _ImageSplits(NamedTuple):
    """Disjoint images for training and for measuring, and a fingerprint of both."""

    train: list[ImageRow]
    heldout: list[ImageRow]
    fingerprint: str


def _list_image_rows(images: Sequence[Digit], size: ImageSize) -> list[ImageRow]:
    return [ImageRow(image.pixels, image.label, size) for image in images]


def load_images(config: DigitsData, size: ImageSize) -> _ImageSplits:
    """The images that `config` names; `num_examples` and `fraction` work as for text. Raises `ConfigError`."""
    train, heldout = split_digits(config.target)
    train = limit_examples(train, config)
    return _ImageSplits(
        _list_image_rows(train, size), _list_image_rows(heldout, size), fingerprint_examples((train, heldout))
    )


def load_heldout_images(orientation: str, size: ImageSize) -> list[ImageRow]:
    """The held-out images, rotated as `orientation` says."""
    return _list_image_rows(split_digits(orientation)[1], size)


def collate_images(rows: Sequence[ImageRow], num_window_targets: int) -> ImageBatch:
    """A batch of images with gray values from -1 to 1, enlarged bilinearly to the model's size, equal in all channels.

    (x - 0.5) / 0.5 with x from 0 to 1 is the input of the ViTs of Dosovitskiy et al. 2021 (arXiv 2010.11929).
    """
    size = rows[0].size
    pixels_B1HW = torch.tensor([row.pixels for row in rows], dtype=torch.float32)[:, None] / (LARGEST_GRAY / 2) - 1
    if pixels_B1HW.shape[-1] != size.side:
        pixels_B1HW = F.interpolate(pixels_B1HW, size=(size.side, size.side), mode="bilinear")
    labels_B = torch.tensor([row.label for row in rows])
    num_tokens = sum(row.num_tokens for row in rows)
    return ImageBatch(pixels_B1HW.repeat(1, size.num_channels, 1, 1), labels_B, num_tokens, num_window_targets)
