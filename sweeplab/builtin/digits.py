"""Handwritten digits from scikit-learn's package, so that an image classifier is studied with no network.

1,797 images of 8 x 8 pixels in 17 grays (Alpaydin and Kaynak 1998, doi 10.24432/C50P49); 400 of them are held out, in
every orientation. The embedded vision base is pretrained on the others as they are, `upright`; it is taught to read
them `rotated`, a quarter to the left, which it cannot. *Retention* is how well it still reads upright ones.
"""

import random
from functools import cache
from typing import Final, NamedTuple

Pixels = list[list[int]]  # rows of grays from 0 to LARGEST_GRAY

_DIGITS_SEED: Final = 20231119
NUM_CLASSES: Final = 10
NUM_HELDOUT: Final = 400
LARGEST_GRAY: Final = 16
ORIENTATIONS: Final = ("rotated", "upright")
DIGITS_TASKS: Final = {f"digits_{orientation}": orientation for orientation in ORIENTATIONS}


class Digit(NamedTuple):
    """One image and what it shows, 0 to 9."""

    pixels: Pixels
    label: int


class ImageSize(NamedTuple):
    """What an image classifier reads: channels, pixels of a side, and the tokens that it makes of an image."""

    num_channels: int
    side: int
    num_tokens: int


def _rotate(pixels: Pixels) -> Pixels:
    """A quarter turn to the left."""
    return [list(column) for column in zip(*pixels, strict=True)][::-1]


@cache
def load_upright_digits() -> list[Digit]:
    """All images in one seeded order."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = [Digit(*one) for one in zip(bunch.images.astype(int).tolist(), bunch.target.tolist(), strict=True)]
    return random.Random(_DIGITS_SEED).sample(images, len(images))


def split_digits(orientation: str) -> tuple[list[Digit], list[Digit]]:
    """What there is to learn from, and what is held out; the same images in every orientation."""
    images = load_upright_digits()
    if orientation == "rotated":
        images = [Digit(_rotate(digit.pixels), digit.label) for digit in images]
    return images[NUM_HELDOUT:], images[:NUM_HELDOUT]
