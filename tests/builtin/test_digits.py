"""The digits against scikit-learn's own arrays and NumPy's turns."""

import numpy as np
from sklearn.datasets import load_digits

from sweeplab.builtin.digits import NUM_HELDOUT, Digit, load_upright_digits, split_digits


def grays(images: list[Digit]) -> list[bytes]:
    return sorted(np.array(pixels, dtype=np.uint8).tobytes() + bytes([label]) for pixels, label in images)


def test_every_image_of_scikit_learn_is_there_once() -> None:
    bunch = load_digits()
    theirs = [Digit(*one) for one in zip(bunch.images.astype(int).tolist(), bunch.target.tolist(), strict=True)]
    train, heldout = split_digits("upright")
    assert (len(train), len(heldout)) == (1397, NUM_HELDOUT)
    assert grays([*train, *heldout]) == grays(theirs)


def test_rotated_images_are_numpys_turned_by_a_quarter_in_the_same_order() -> None:
    for turned, upright in zip(split_digits("rotated"), split_digits("upright"), strict=True):
        assert np.array_equal(
            np.array([image.pixels for image in turned]),
            np.rot90(np.array([image.pixels for image in upright]), axes=(1, 2)),
        )
        assert [image.label for image in turned] == [image.label for image in upright]


def test_no_image_is_held_out_and_learned_from_too() -> None:
    train, heldout = split_digits("upright")
    assert set(grays(train)).isdisjoint(grays(heldout))


def test_every_class_is_held_out_about_as_often() -> None:
    counts = np.bincount([image.label for image in load_upright_digits()[:NUM_HELDOUT]], minlength=10)
    assert counts.min() >= 28
    assert counts.max() <= 52
