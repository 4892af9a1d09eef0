"""Images to batches, against NumPy and SciPy."""

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from sweeplab.builtin.digits import ImageSize, split_digits
from sweeplab.config.data import DigitsData
from sweeplab.data.batches import Windows, make_heldout_batches
from sweeplab.data.images import ImageBatch, collate_images, load_heldout_images, load_images
from sweeplab.data.tokens import IGNORED
from sweeplab.multilora.batches import Share, _combine_rows, iterate_cohort_batches

OWN = ImageSize(num_channels=1, side=8, num_tokens=17)


@pytest.fixture(scope="module")
def config(compose_trial: Any) -> DigitsData:
    data: DigitsData = compose_trial("model=tiny_vit", "data=digits").data
    return data


def enlarged(image: list[list[int]], side: int) -> np.ndarray[Any, Any]:
    """Bilinear by hand: pixel centres at (i + 1/2) * 8 / side - 1/2, the border repeated."""
    source = np.array(image, dtype=np.float64) / 8 - 1
    places = np.clip((np.arange(side) + 0.5) * 8 / side - 0.5, 0, 7)
    low = np.minimum(places.astype(int), 6)
    share = places - low
    rows = source[low] * (1 - share)[:, None] + source[low + 1] * share[:, None]
    columns: np.ndarray[Any, Any] = rows[:, low] * (1 - share) + rows[:, low + 1] * share
    return columns


def test_grays_go_from_minus_one_to_one(config: DigitsData) -> None:
    rows = load_images(config, OWN).train[:5]
    batch = collate_images(rows, num_window_targets=7)
    expected = np.array([digit.pixels for digit in split_digits("rotated")[0][:5]])[:, None] / 8 - 1
    assert np.array_equal(batch.pixels_BCHW.numpy(), expected)
    assert [batch.pixels_BCHW.min().item(), batch.pixels_BCHW.max().item()] == [-1, 1]
    assert batch.labels_B.tolist() == [row.label for row in rows]
    assert (batch.num_tokens, batch.num_window_targets) == (5 * 17, 7)


@pytest.mark.parametrize("side", [12, 32, 224])
def test_images_are_enlarged_to_the_models_size_and_channels(config: DigitsData, side: int) -> None:
    rows = load_images(config, ImageSize(3, side, 9)).heldout[:3]
    pixels = collate_images(rows, 3).pixels_BCHW
    for made, row in zip(pixels, rows, strict=True):
        for channel in made:
            np.testing.assert_allclose(channel.numpy(), enlarged(row.pixels, side), atol=1e-5)


def test_an_epoch_holds_every_image_once_and_its_windows_count_images(config: DigitsData) -> None:
    rows = load_images(config.replaced(num_examples=23), OWN).train
    windows = Windows(rows, micro_batch_size=3, accumulation=2, seed=1)
    assert windows.num_per_epoch == 4
    batches: list[Any] = list(islice(iterate_cohort_batches([(windows, 0)], 0), 8))
    assert [len(batch.rows.labels_B) for batch in batches] == [3, 3, 3, 3, 3, 3, 3, 2]
    assert [share.num_window_targets for batch in batches for share in batch.shares] == [6] * 6 + [5] * 2
    seen = torch.cat([batch.rows.pixels_BCHW for batch in batches]).flatten(1)
    assert sorted(map(tuple, seen.tolist())) == sorted(
        map(tuple, collate_images(rows, 0).pixels_BCHW.flatten(1).tolist())
    )


def test_a_trial_with_fewer_images_gets_some_without_a_class(config: DigitsData) -> None:
    rows = load_images(config.replaced(num_examples=9), OWN).train
    batch = _combine_rows([(rows[:3], 6), (rows[4:5], 1), ([], 0)], rows[8], 0)
    assert isinstance(batch.rows, ImageBatch)
    labels = [row.label for row in rows]
    assert batch.rows.labels_B.tolist() == [*labels[:3], labels[4], *[IGNORED] * 5]
    assert torch.equal(batch.rows.pixels_BCHW[:4], collate_images([*rows[:3], rows[4]], 0).pixels_BCHW)
    assert batch.shares == (Share(3, 17, 51, 3, 6), Share(1, 17, 17, 1, 1), Share(0, 0, 0, 0, 0))


def test_heldout_batches_hold_every_image_once_in_order() -> None:
    rows = load_heldout_images("upright", OWN)
    batches = make_heldout_batches(rows, 0, batch_size=64)
    assert all(isinstance(batch, ImageBatch) for batch in batches)
    labels = [label for batch in batches if isinstance(batch, ImageBatch) for label in batch.labels_B.tolist()]
    assert labels == [digit.label for digit in split_digits("upright")[1]]
    assert sum(batch.num_window_targets for batch in batches) == 400


def test_fewer_images_are_the_first_ones_or_a_nested_share(config: DigitsData) -> None:
    everything = load_images(config, OWN)
    assert load_images(config.replaced(num_examples=50), OWN).train == everything.train[:50]
    small, large = (load_images(config.replaced(fraction=share), OWN).train for share in (0.1, 0.3))
    assert (len(small), len(large)) == (140, 419)
    assert small == large[:140]


def test_fingerprints_tell_orientations_and_shares_apart(config: DigitsData) -> None:
    variants = (config, config.replaced(target="upright"), config.replaced(num_examples=50))
    assert len({load_images(one, OWN).fingerprint for one in variants}) == 3
    assert load_images(config, OWN).fingerprint == load_images(config, ImageSize(3, 32, 5)).fingerprint
